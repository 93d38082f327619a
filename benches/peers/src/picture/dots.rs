//! A dot plot with one line for each contestant, which shows its quantiles on a logarithmic scale.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Run;
use super::canvas::{FAINT, HEAD_HEIGHT, WIDTH, colour, paper, short, ticks, write};
use crate::report::significant;

const LINE: u32 = 54;
const AXIS_HEIGHT: u32 = 40;
const NAMES_WIDTH: i32 = 230;
const MARGIN: i32 = 60;

pub fn draw(path: &Path, run: &Run, title: &str, metrics: &[&str]) -> Result<(), Box<dyn Error>> {
    let all: Vec<_> = metrics.iter().map(|metric| run.figures(metric, "")).collect();
    let medians = || all.iter().flatten().map(|figure| figure.median).filter(|&median| median > 0.0);
    let ticks = ticks(medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
    let (least, most) = (ticks[0], ticks[ticks.len() - 1]);
    let lines = all.first().map_or(0, Vec::len) as u32;
    let root = paper(path, LINE * lines + AXIS_HEIGHT, title, &run.origin())?;
    let bottom = (HEAD_HEIGHT + LINE * lines) as i32;
    let x_of = |value: f64| {
        let share = (value.max(least) / least).log10() / (most / least).log10();
        NAMES_WIDTH + (share * f64::from(WIDTH as i32 - NAMES_WIDTH - MARGIN)).round() as i32
    };

    for tick in ticks {
        let x = x_of(tick);
        root.draw(&PathElement::new([(x, HEAD_HEIGHT as i32), (x, bottom)], FAINT))?;
        write(&root, &short(tick), (x, bottom + 16), 14, HPos::Center)?;
    }
    for line in 0..lines as usize {
        let figures: Vec<_> = all.iter().filter_map(|metric| metric.get(line)).collect();
        let contestant = &figures[0].contestant;
        let colour = colour(contestant);
        let y = (HEAD_HEIGHT + LINE * line as u32 + LINE / 2) as i32 + 8;
        write(&root, contestant, (NAMES_WIDTH - 14, y), 16, HPos::Right)?;
        let xs: Vec<_> = figures.iter().map(|figure| x_of(figure.median)).collect();
        let ends = [xs.iter().min(), xs.iter().max()].map(|end| (end.copied().unwrap_or(0), y));
        root.draw(&PathElement::new(ends, colour.stroke_width(2)))?;
        for x in &xs {
            root.draw(&Circle::new((*x, y), 5, colour.filled()))?;
        }
        let describe = |index: usize| format!("{} {}", metrics[index], significant(figures[index].median));
        // Dots that are too close to each other share one label.
        let mut from = 0;
        while from < xs.len() {
            let together = (from..xs.len()).take_while(|&index| xs[index] - xs[from] < 150).last().unwrap_or(from);
            let label: Vec<_> = (from..=together).map(describe).collect();
            let middle = (xs[from] + xs[together]) / 2;
            let (x, side) = if together + 1 == xs.len() && middle > WIDTH as i32 - 200 {
                (WIDTH as i32 - 14, HPos::Right)
            } else {
                (middle, HPos::Center)
            };
            write(&root, &label.join(", "), (x, y - 19), 14, side)?;
            from = together + 1;
        }
    }
    root.present()?;
    Ok(())
}
