//! The picture: who served how much, what an acquire took, and when there was trouble.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::record::{Mark, Roster, Sample, Timeline, name};
use crate::report::grouped;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1_200;
const HEAD_HEIGHT: u32 = 76;
const TITLE_HEIGHT: u32 = 32;
const PANEL_HEIGHT: u32 = 280;
const X_AXIS_HEIGHT: u32 = 48;
const LANE_HEIGHT: u32 = 22;
/// Room for the axis on the left and for the legend on the right.
const AXIS_WIDTH: u32 = 90;
const LEGEND_WIDTH: u32 = 210;
/// What has room in the legend.
const WIDEST_ADDRESS: usize = 20;
const MOST_LANES: usize = 5;

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
/// By server. They can be told apart by those who do not see red and green as others do (Okabe and Ito).
const SERVERS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
];
/// From p50 to max: the worse, the darker.
const QUANTILES: [(&str, RGBColor); 4] = [
    ("p50", RGBColor(252, 174, 145)),
    ("p99", RGBColor(251, 106, 74)),
    ("p99.9", RGBColor(203, 24, 29)),
    ("max", RGBColor(90, 0, 20)),
];

/// Writes the picture.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn draw(path: &Path, timeline: &Timeline, roster: &Roster) -> Result<(), Box<dyn Error>> {
    let seconds = timeline.samples().last().map_or(1.0, |last| last.to.as_secs_f64());
    let (lanes, lane_count) = lanes(timeline.marks(), seconds);
    let lanes_top = HEAD_HEIGHT + TITLE_HEIGHT;
    let first = lanes_top + lane_count as u32 * LANE_HEIGHT;
    let second = first + PANEL_HEIGHT + TITLE_HEIGHT + 8;
    let root = SVGBackend::new(path, (WIDTH, second + PANEL_HEIGHT + X_AXIS_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;

    draw_head(&root, timeline)?;
    draw_title(&root, HEAD_HEIGHT, "Requests per second, by the server that answered")?;
    draw_requests(&root, first, seconds, timeline.samples(), roster)?;
    draw_title(&root, second - TITLE_HEIGHT, "Time to acquire a connection, from when the request was due")?;
    draw_acquires(&root, second, seconds, timeline.samples())?;
    for (mark, lane) in timeline.marks().iter().zip(lanes) {
        let x = x_of(mark.at.as_secs_f64(), seconds);
        let label_top = lane.map(|lane| lanes_top + lane as u32 * LANE_HEIGHT);
        for (from, to) in [(label_top.unwrap_or(first), first + PANEL_HEIGHT), (second, second + PANEL_HEIGHT)] {
            root.draw(&PathElement::new([(x, from as i32), (x, to as i32)], INK.stroke_width(1)))?;
        }
        if let Some(top) = label_top {
            draw_label(&root, mark, (x, top as i32))?;
        }
    }
    root.present()?;
    Ok(())
}

fn draw_head(root: &Area<'_>, timeline: &Timeline) -> Result<(), Box<dyn Error>> {
    let total = timeline.total();
    let result = format!(
        "{} acquires, {} failed; {} right answers, {} wrong",
        grouped(total.acquire.len()),
        grouped(total.failed),
        grouped(total.answered.iter().sum()),
        grouped(total.wrong),
    );
    root.draw(&Text::new(
        "One pool over many servers, while servers fail",
        (24, 14),
        ("sans-serif", 24).into_font().color(&INK),
    ))?;
    root.draw(&Text::new(result, (24, 44), ("sans-serif", 16).into_font().color(&INK)))?;
    Ok(())
}

fn draw_title(root: &Area<'_>, top: u32, title: &str) -> Result<(), Box<dyn Error>> {
    let style = ("sans-serif", 16).into_font().style(FontStyle::Bold).color(&INK);
    root.draw(&Text::new(title.to_owned(), (AXIS_WIDTH as i32, top as i32 + 6), style))?;
    Ok(())
}

/// Requests per second, the servers stacked on each other.
fn draw_requests(
    root: &Area<'_>,
    top: u32,
    seconds: f64,
    samples: &[Sample],
    roster: &Roster,
) -> Result<(), Box<dyn Error>> {
    let most = samples.iter().map(|sample| sample.requests_per_second.iter().sum()).fold(1.0, f64::max);
    let area = root.clone().shrink((0, top), (WIDTH - LEGEND_WIDTH, PANEL_HEIGHT));
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(0)
        .y_label_area_size(AXIS_WIDTH)
        .build_cartesian_2d(0.0..seconds, 0.0..most * 1.15)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(("sans-serif", 15).into_font().color(&INK))
        .x_labels(0)
        .y_label_formatter(&|value| grouped(value.round() as u64))
        .draw()?;

    let servers = roster.addresses().len();
    for server in (0..servers).rev() {
        let up_to_this = |sample: &Sample| sample.requests_per_second[..=server].iter().sum::<f64>();
        let steps =
            samples.iter().flat_map(|sample| [sample.from, sample.to].map(|at| (at.as_secs_f64(), up_to_this(sample))));
        chart.draw_series(AreaSeries::new(steps, 0.0, colour(server)).border_style(WHITE))?;
    }

    let entries = (0..servers).rev().map(|server| {
        let address = roster.addresses()[server].chars().take(WIDEST_ADDRESS).collect::<String>();
        (format!("{} {address}", name(server)), colour(server))
    });
    draw_legend(root, top, "answered by", entries)
}

/// What an acquire took, on a scale of powers of ten.
fn draw_acquires(root: &Area<'_>, top: u32, seconds: f64, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let all = || samples.iter().filter_map(|sample| sample.acquire).flatten().map(|nanos| nanos.max(1) as f64);
    let least = 10_f64.powf(all().fold(1e6, f64::min).log10().floor());
    let most = 10_f64.powf(all().fold(least * 10.0, f64::max).log10().ceil());
    let area = root.clone().shrink((0, top), (WIDTH - LEGEND_WIDTH, PANEL_HEIGHT + X_AXIS_HEIGHT));
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(X_AXIS_HEIGHT)
        .y_label_area_size(AXIS_WIDTH)
        .build_cartesian_2d(0.0..seconds, (least..most).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(("sans-serif", 15).into_font().color(&INK))
        .x_desc("seconds")
        .x_label_formatter(&|seconds| seconds.to_string())
        .y_label_formatter(&|nanos| power_of_ten(*nanos))
        .draw()?;

    for (quantile, (_, colour)) in QUANTILES.iter().enumerate() {
        for stretch in samples.split(|sample| sample.acquire.is_none()) {
            let points = stretch.iter().filter_map(|sample| {
                let middle = (sample.from + sample.to).as_secs_f64() / 2.0;
                sample.acquire.map(|nanos| (middle, nanos[quantile].max(1) as f64))
            });
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(1))?;
        }
    }

    let entries = QUANTILES.iter().rev().map(|(label, colour)| (label.to_string(), *colour));
    draw_legend(root, top, "acquires", entries)
}

fn draw_legend(
    root: &Area<'_>,
    top: u32,
    title: &str,
    entries: impl Iterator<Item = (String, RGBColor)>,
) -> Result<(), Box<dyn Error>> {
    let (x, mut y) = ((WIDTH - LEGEND_WIDTH + 20) as i32, top as i32);
    let font = || ("sans-serif", 15).into_font().color(&INK);
    root.draw(&Text::new(title.to_owned(), (x, y), font()))?;
    for (label, colour) in entries {
        y += 24;
        root.draw(&Rectangle::new([(x, y), (x + 14, y + 14)], colour.filled()))?;
        root.draw(&Text::new(label, (x + 22, y), font()))?;
    }
    Ok(())
}

/// What happened, as a flag at the line of its time.
fn draw_label(root: &Area<'_>, mark: &Mark, (x, top): (i32, i32)) -> Result<(), Box<dyn Error>> {
    let height = LANE_HEIGHT as i32 - 5;
    root.draw(&Rectangle::new([(x, top), (x + 7, top + height)], colour(mark.server).filled()))?;
    let style = ("sans-serif", 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(mark.label.clone(), (x + 12, top + height / 2), style))?;
    Ok(())
}

/// Chooses a lane for each label, 0 the highest, so that neither a label nor the line of a later mark runs through
/// another label; none where there is no room. Returns also how many lanes that takes.
fn lanes(marks: &[Mark], seconds: f64) -> (Vec<Option<usize>>, usize) {
    let mut ends: Vec<i32> = Vec::new();
    let mut chosen = Vec::new();
    for mark in marks {
        let x = x_of(mark.at.as_secs_f64(), seconds);
        let lane = ends.iter().rposition(|&end| end > x).map_or(0, |lowest_taken| lowest_taken + 1);
        let end = x + 24 + 8 * mark.label.len() as i32;
        if lane >= MOST_LANES {
            chosen.push(None);
            continue;
        }
        ends.resize(ends.len().max(lane + 1), 0);
        ends[lane] = end;
        chosen.push(Some(lane));
    }
    (chosen, ends.len())
}

/// Where that time is, in both panels.
fn x_of(second: f64, seconds: f64) -> i32 {
    let width = f64::from(WIDTH - LEGEND_WIDTH - AXIS_WIDTH);
    (f64::from(AXIS_WIDTH) + width * second.min(seconds) / seconds).round() as i32
}

fn colour(server: usize) -> RGBColor {
    SERVERS[server % SERVERS.len()]
}

fn power_of_ten(nanos: f64) -> String {
    match nanos {
        1e9.. => format!("{} s", nanos / 1e9),
        1e6.. => format!("{} ms", nanos / 1e6),
        1e3.. => format!("{} µs", nanos / 1e3),
        _ => format!("{nanos} ns"),
    }
}
