//! A bar chart with one bar for each contestant, starting at zero.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Run;
use super::canvas::{HEAD_HEIGHT, WIDTH, colour, paper, write};
use crate::report::significant;

const LINE: u32 = 30;
const NAMES_WIDTH: i32 = 250;
const FIGURES_WIDTH: i32 = 90;

pub fn draw(path: &Path, run: &Run, title: &str, metric: &str) -> Result<(), Box<dyn Error>> {
    let figures = run.figures(metric, "");
    let most = figures.iter().map(|figure| figure.median).fold(1.0, f64::max);
    let root = paper(path, LINE * figures.len() as u32 + 10, title, &run.origin())?;
    for (index, figure) in figures.iter().enumerate() {
        let top = (HEAD_HEIGHT + LINE * index as u32) as i32;
        let middle = top + LINE as i32 / 2;
        let room = f64::from(WIDTH as i32 - NAMES_WIDTH - FIGURES_WIDTH);
        let end = NAMES_WIDTH + (room * figure.median / most).round() as i32;
        write(&root, &figure.contestant, (NAMES_WIDTH - 10, middle), 16, HPos::Right)?;
        let colour = colour(&figure.contestant);
        root.draw(&Rectangle::new([(NAMES_WIDTH, top + 4), (end, top + LINE as i32 - 4)], colour.filled()))?;
        write(&root, &significant(figure.median), (end + 8, middle), 16, HPos::Left)?;
    }
    root.present()?;
    Ok(())
}
