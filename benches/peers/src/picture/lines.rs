//! A line chart with one line for each contestant, labelled at its end. The horizontal axis is logarithmic. The
//! vertical axis is logarithmic if the values span more than a factor of ten, otherwise it starts at zero.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Run;
use super::canvas::{Colours, FAINT, HEAD_HEIGHT, WIDTH, paper, short, ticks, ticks_from_zero, write};
use crate::report::significant;

const HEIGHT: i32 = 460;
const AXIS_HEIGHT: i32 = 44;
const LEFT: i32 = 80;
const NAMES_WIDTH: i32 = 320;
const RIGHT: i32 = WIDTH as i32 - NAMES_WIDTH;
/// The height of a label.
const NAME_HEIGHT: i32 = 19;

pub struct Axes {
    pub title: &'static str,
    pub setting: &'static str,
    pub metric: &'static str,
}

/// A contestant and its points.
type Line = (String, Vec<(f64, f64)>);

pub fn draw(path: &Path, run: &Run, axes: &Axes, is_shown: fn(&str) -> bool) -> Result<(), Box<dyn Error>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut marks: Vec<f64> = Vec::new();
    for figure in run.figures(axes.metric, axes.setting).into_iter().filter(|figure| is_shown(&figure.contestant)) {
        let point = (figure.at, figure.median);
        if !marks.contains(&figure.at) {
            marks.push(figure.at);
        }
        match lines.iter_mut().find(|(contestant, _)| *contestant == figure.contestant) {
            Some((_, points)) => points.push(point),
            None => lines.push((figure.contestant, vec![point])),
        }
    }
    let root = paper(path, (HEIGHT + AXIS_HEIGHT) as u32, axes.title, &run.origin())?;
    let (top, bottom) = (HEAD_HEIGHT as i32 + 10, HEAD_HEIGHT as i32 + HEIGHT);
    let ys = || lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y)).filter(|&y| y > 0.0);
    let (lowest, highest) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
    let is_wide = highest / lowest > 10.0;
    let ticks = if is_wide { ticks(lowest, highest) } else { ticks_from_zero(highest) };
    let (least, most) = (ticks[0], ticks[ticks.len() - 1]);
    let (first, last) = (marks.first().copied().unwrap_or(1.0), marks.last().copied().unwrap_or(10.0));
    let share = |value: f64, from: f64, to: f64| (value / from).ln() / (to / from).ln();
    let x_of = |x: f64| LEFT + (share(x, first, last) * f64::from(RIGHT - LEFT)).round() as i32;
    let y_of = |y: f64| {
        let share = if is_wide { share(y, least, most) } else { y / most };
        bottom - (share * f64::from(bottom - top)).round() as i32
    };

    for tick in ticks {
        root.draw(&PathElement::new([(LEFT, y_of(tick)), (RIGHT, y_of(tick))], FAINT))?;
        write(&root, &short(tick), (LEFT - 10, y_of(tick)), 14, HPos::Right)?;
    }
    for &mark in &marks {
        write(&root, &short(mark), (x_of(mark), bottom + 14), 14, HPos::Center)?;
    }
    write(&root, axes.setting, ((LEFT + RIGHT) / 2, bottom + 34), 14, HPos::Center)?;

    let mut colours = Colours::default();
    let mut names = Vec::new();
    for (contestant, points) in &lines {
        let colour = colours.next(contestant);
        let points: Vec<_> = points.iter().map(|&(x, y)| ((x_of(x), y_of(y)), y)).collect();
        root.draw(&PathElement::new(points.iter().map(|(at, _)| *at).collect::<Vec<_>>(), colour.stroke_width(2)))?;
        for (at, _) in &points {
            root.draw(&Circle::new(*at, 4, colour.filled()))?;
        }
        let Some(((_, y), value)) = points.last() else { continue };
        names.push((*y, format!("{contestant}: {}", significant(*value)), colour));
    }
    for (wanted, y, name, colour) in spread(names, top, bottom) {
        let knee = [(RIGHT + 6, wanted), (RIGHT + 22, y), (RIGHT + 30, y)];
        root.draw(&PathElement::new(knee, colour.stroke_width(1)))?;
        write(&root, &name, (RIGHT + 36, y), 15, HPos::Left)?;
    }
    root.present()?;
    Ok(())
}

/// Moves overlapping labels apart. Returns for each label the end of its line, its position, its text and its colour.
fn spread(
    mut names: Vec<(i32, String, RGBColor)>,
    top: i32,
    bottom: i32,
) -> impl Iterator<Item = (i32, i32, String, RGBColor)> {
    names.sort_by_key(|(y, ..)| *y);
    let mut ys: Vec<i32> = names.iter().map(|(y, ..)| *y).collect();
    let mut floor = top;
    for y in &mut ys {
        *y = (*y).max(floor);
        floor = *y + NAME_HEIGHT;
    }
    let mut ceiling = bottom;
    for y in ys.iter_mut().rev() {
        *y = (*y).min(ceiling);
        ceiling = *y - NAME_HEIGHT;
    }
    names.into_iter().zip(ys).map(|((wanted, name, colour), y)| (wanted, y, name, colour))
}
