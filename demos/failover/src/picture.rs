//! Draws the picture: one column for each run, with the same axes.
//!
//! A column shows the result of the run, the answers and failures per second, and the times of acquires.

mod layout;
mod panels;

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::args::Args;
use crate::picture::layout::Layout;
use crate::picture::panels::Scales;
use crate::record::{Mark, Roster, name};
use crate::report::{duration, grouped};
use crate::run::Run;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const SHADE: RGBColor = RGBColor(242, 242, 242);
const FAILED: RGBColor = RGBColor(214, 39, 40);
const FINE: RGBColor = RGBColor(0, 110, 60);
/// The colours of the servers: cool, of different lightness, so that the red of failures stands out.
const SERVERS: [RGBColor; 7] = [
    RGBColor(23, 78, 128),
    RGBColor(67, 147, 195),
    RGBColor(161, 205, 228),
    RGBColor(30, 130, 120),
    RGBColor(127, 200, 180),
    RGBColor(90, 90, 140),
    RGBColor(170, 170, 205),
];
/// The colours of the two times of an acquire.
const SINCE_DUE: RGBColor = RGBColor(117, 68, 168);
const IN_CALL: RGBColor = RGBColor(230, 140, 0);

/// The wait for a connection that counts as late in the result.
const LATE_NANOS: u64 = 100_000_000;

/// The symbol of a legend entry.
enum Swatch {
    Area(RGBColor),
    Line(RGBColor),
    Dashes(RGBColor),
}

/// Writes the picture.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn draw(path: &Path, args: &Args, runs: &[&Run], roster: &Roster) -> Drawn {
    let layout = Layout::new(runs);
    let scales = Scales::of(runs, layout.seconds);
    let root = SVGBackend::new(path, (layout::WIDTH, layout.height)).into_drawing_area();
    root.fill(&WHITE)?;
    draw_head(&root, args, runs.len())?;
    draw_legend(&root, layout.answers_title, "Answers per second", &answer_legend(roster))?;
    draw_legend(&root, layout.times_title, "Time to get a connection", &time_legend())?;
    for (column, run) in runs.iter().enumerate() {
        draw_result(&root, run, layout.left(column))?;
        draw_outages(&root, &layout, column, run.timeline.marks())?;
        panels::draw_answers(&root, &layout, column, &scales, run.timeline.samples())?;
        panels::draw_times(&root, &layout, column, &scales, run.timeline.samples())?;
        draw_marks(&root, &layout, column, run.timeline.marks())?;
    }
    root.present()?;
    Ok(())
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn bold(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().style(FontStyle::Bold).color(&colour)
}

fn text(root: &Area<'_>, text: impl Into<String>, at: (i32, i32), style: TextStyle<'static>) -> Drawn {
    root.draw(&Text::new(text.into(), at, style))?;
    Ok(())
}

fn draw_head(root: &Area<'_>, args: &Args, runs: usize) -> Drawn {
    let load = match args.rps {
        0 => format!("{} tasks", args.tasks),
        rps => format!("{} requests a second", grouped(rps.into())),
    };
    let subtitle = match runs {
        1 => load,
        _ => format!("The same load, {load}, and the same server failures in both runs"),
    };
    text(root, "Requests while servers fail", (layout::MARGIN, 16), bold(34, INK))?;
    text(root, subtitle, (layout::MARGIN, 56), font(20, GREY))
}

/// Draws the heading of a column: the name of the contestant and the result.
fn draw_result(root: &Area<'_>, run: &Run, left: i32) -> Drawn {
    let total = run.timeline.total();
    let requests = total.failed + total.wrong + total.answered.iter().sum::<u64>();
    let share = match total.failed {
        0 => String::new(),
        failed => format!(" ({:.1} %)", 100.0 * failed as f64 / requests as f64),
    };
    let failed = format!("{} of {} requests failed{share}", grouped(total.failed), grouped(requests));
    let late = total.since_due.count_between(LATE_NANOS, u64::MAX);
    let waits = format!(
        "{} waited over {} for a connection; slowest: {}",
        grouped(late),
        duration(LATE_NANOS),
        duration(total.since_due.max()),
    );
    text(root, run.title, (left, layout::RESULT), bold(23, INK))?;
    text(root, failed, (left, layout::RESULT + 28), bold(23, if total.failed == 0 { FINE } else { FAILED }))?;
    text(root, waits, (left, layout::RESULT + 57), font(19, INK))
}

fn answer_legend(roster: &Roster) -> Vec<(Swatch, String)> {
    let named = |with_address: bool| {
        let label = |(place, address): (usize, &std::sync::Arc<str>)| match with_address {
            true => format!("{} {address}", name(place)),
            false if place == 0 => "server A".to_owned(),
            false => name(place),
        };
        let servers = roster.addresses().iter().enumerate().map(label);
        let swatches = servers.enumerate().map(|(place, label)| (Swatch::Area(colour(place)), label));
        swatches.chain([(Swatch::Area(FAILED), "failed requests".to_owned())]).collect::<Vec<_>>()
    };
    let full = named(true);
    if layout::fits_in_legend(full.iter().map(|(_, label)| label.as_str())) { full } else { named(false) }
}

fn time_legend() -> Vec<(Swatch, String)> {
    vec![
        (Swatch::Line(SINCE_DUE), "since the request was due: slowest".to_owned()),
        (Swatch::Dashes(SINCE_DUE), "median".to_owned()),
        (Swatch::Line(IN_CALL), "acquire call alone: slowest".to_owned()),
        (Swatch::Dashes(IN_CALL), "median".to_owned()),
    ]
}

/// Draws the title of a row, and the legend to the right of it.
fn draw_legend(root: &Area<'_>, top: i32, title: &str, entries: &[(Swatch, String)]) -> Drawn {
    text(root, title, (layout::MARGIN, top), bold(21, INK))?;
    let mut x = layout::LEGEND;
    for (swatch, label) in entries {
        let (box_top, middle) = (top + 2, top + 10);
        match swatch {
            Swatch::Area(colour) => {
                root.draw(&Rectangle::new([(x, box_top), (x + 14, box_top + 14)], colour.filled()))?;
                x += 20;
            }
            Swatch::Line(colour) => {
                root.draw(&PathElement::new([(x, middle), (x + 28, middle)], colour.stroke_width(3)))?;
                x += 34;
            }
            Swatch::Dashes(colour) => {
                for dash in [x, x + 10, x + 20] {
                    root.draw(&PathElement::new([(dash, middle), (dash + 6, middle)], colour.stroke_width(2)))?;
                }
                x += 34;
            }
        }
        text(root, label.clone(), (x, top + 1), font(19, INK))?;
        x += layout::width_of(label) + layout::BETWEEN_ENTRIES;
    }
    Ok(())
}

/// Shades the time from a server's failure to its recovery, its first and its second event.
fn draw_outages(root: &Area<'_>, layout: &Layout, column: usize, marks: &[Mark]) -> Drawn {
    for (nth, mark) in marks.iter().enumerate() {
        let earlier = marks[..nth].iter().filter(|other| other.server == mark.server).count();
        let next = marks[nth + 1..].iter().find(|other| other.server == mark.server);
        let Some(next) = next.filter(|_| earlier.is_multiple_of(2)) else { continue };
        let (from, to) = (layout.x_of(column, mark.at), layout.x_of(column, next.at));
        for (top, bottom) in layout.panels() {
            root.draw(&Rectangle::new([(from, top), (to, bottom)], SHADE.filled()))?;
        }
    }
    Ok(())
}

/// Draws each event as a vertical line through both panels, with a flag above.
fn draw_marks(root: &Area<'_>, layout: &Layout, column: usize, marks: &[Mark]) -> Drawn {
    for (mark, lane) in marks.iter().zip(layout.lanes(column)) {
        let x = layout.x_of(column, mark.at);
        let flag_top = lane.map(|lane| layout.top_of_lane(lane));
        let [(first_top, first_bottom), second] = layout.panels();
        for (from, to) in [(flag_top.unwrap_or(first_top), first_bottom), second] {
            root.draw(&PathElement::new([(x, from), (x, to)], GREY.stroke_width(1)))?;
        }
        let Some(top) = flag_top else { continue };
        let bottom = top + layout::FLAG_HEIGHT;
        root.draw(&Rectangle::new([(x, top), (x + 5, bottom)], colour(mark.server).filled()))?;
        let style = font(16, INK).pos(Pos::new(HPos::Left, VPos::Center));
        text(root, mark.label.clone(), (x + layout::FLAG_LABEL, (top + bottom) / 2), style)?;
    }
    Ok(())
}

fn colour(server: usize) -> RGBColor {
    SERVERS[server % SERVERS.len()]
}
