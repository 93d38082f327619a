//! Draws the panels: answers and failures per second, and the times of acquires.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::layout::{self, Layout};
use super::{Area, Drawn, FAILED, FAINT, IN_CALL, INK, SINCE_DUE, colour, font, text};
use crate::record::Sample;
use crate::report::grouped;
use crate::run::Run;

/// Indices of the quantiles of a sample.
const MEDIAN: usize = 0;
const SLOWEST: usize = 3;

/// The height of the axis of answers, as a multiple of the maximum in the first run.
const HEADROOM: f64 = 1.6;

/// The ranges of the axes, the same for all runs.
pub(super) struct Scales {
    seconds: f64,
    most_per_second: f64,
    least_nanos: f64,
    most_nanos: f64,
}

impl Scales {
    pub(super) fn of(runs: &[&Run], seconds: f64) -> Self {
        let samples = || runs.iter().flat_map(|run| run.timeline.samples());
        let nanos = || samples().flat_map(|sample| [sample.since_due, sample.in_call]).flatten().flatten();
        let power_of_ten = |nanos: Option<u64>| nanos.unwrap_or(1_000).max(1) as f64;
        Self {
            seconds,
            most_per_second: HEADROOM * runs.first().map_or(1.0, |run| most_per_second(run.timeline.samples())),
            least_nanos: 10_f64.powf(power_of_ten(nanos().min()).log10().floor()),
            most_nanos: 10_f64.powf((power_of_ten(nanos().max()) + 1.0).log10().ceil()),
        }
    }
}

/// Returns the answers and failures per second.
fn per_second(sample: &Sample) -> f64 {
    sample.answers_per_second.iter().sum::<f64>() + sample.failures_per_second
}

fn most_per_second(samples: &[Sample]) -> f64 {
    samples.iter().map(per_second).fold(1.0, f64::max)
}

/// Draws the answers per second as stacked areas, one for each server, with the failures on top.
pub(super) fn draw_answers(
    root: &Area<'_>,
    layout: &Layout,
    column: usize,
    scales: &Scales,
    samples: &[Sample],
) -> Drawn {
    let (area, axis_width) = panel(root, layout, column, 0);
    let mut chart = ChartBuilder::on(&area)
        .y_label_area_size(axis_width)
        .build_cartesian_2d(0.0..scales.seconds, 0.0..scales.most_per_second)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font(19, INK))
        .x_labels(0)
        .y_label_formatter(&|value| grouped(value.round() as u64))
        .draw()?;

    let servers = samples.first().map_or(0, |sample| sample.answers_per_second.len());
    let mut stack = |colour: RGBColor, height: &dyn Fn(&Sample) -> f64| -> Drawn {
        let steps = samples.iter().flat_map(|sample| {
            [sample.from, sample.to].map(|at| (at.as_secs_f64(), height(sample).min(scales.most_per_second)))
        });
        chart.draw_series(AreaSeries::new(steps, 0.0, colour))?;
        Ok(())
    };
    // Each area covers the lower part of the previous one.
    stack(FAILED, &per_second)?;
    for server in (0..servers).rev() {
        stack(colour(server), &|sample| sample.answers_per_second[..=server].iter().sum())?;
    }

    // Cuts off the burst after a stall, because at full height it would flatten the rest of the picture.
    if let Some(first) = samples.iter().find(|sample| per_second(sample) > scales.most_per_second) {
        let label = format!("up to {}", grouped(rounded(most_per_second(samples))));
        let at = (layout.x_of(column, first.from) - 6, layout.panels()[0].0 + 6);
        text(root, label, at, font(16, INK).pos(Pos::new(HPos::Right, VPos::Top)))?;
    }
    Ok(())
}

/// Rounds to two significant digits.
fn rounded(number: f64) -> u64 {
    let unit = 10_f64.powf(number.log10().floor() - 1.0);
    ((number / unit).round() * unit) as u64
}

/// Draws the times of acquires on a logarithmic scale.
pub(super) fn draw_times(
    root: &Area<'_>,
    layout: &Layout,
    column: usize,
    scales: &Scales,
    samples: &[Sample],
) -> Drawn {
    let (area, axis_width) = panel(root, layout, column, 1);
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(layout::X_AXIS_HEIGHT)
        .y_label_area_size(axis_width)
        .build_cartesian_2d(0.0..scales.seconds, (scales.least_nanos..scales.most_nanos).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font(19, INK))
        .x_desc("seconds")
        .axis_desc_style(font(19, INK))
        .x_label_formatter(&|seconds| seconds.to_string())
        .y_label_formatter(&|nanos| power_of_ten(*nanos))
        .draw()?;

    let mut lines = |colour: RGBColor, times: fn(&Sample) -> Option<[u64; 4]>| -> Drawn {
        let points = |quantile: usize| {
            samples.iter().filter_map(move |sample| {
                let middle = (sample.from + sample.to).as_secs_f64() / 2.0;
                times(sample).map(|nanos| (middle, nanos[quantile].max(1) as f64))
            })
        };
        chart.draw_series(LineSeries::new(points(SLOWEST), colour.stroke_width(3)))?;
        chart.draw_series(DashedLineSeries::new(points(MEDIAN), 6, 4, colour.stroke_width(2)))?;
        Ok(())
    };
    lines(SINCE_DUE, |sample| sample.since_due)?;
    lines(IN_CALL, |sample| sample.in_call)
}

/// Returns the area of a panel with its axes, and the width of its left axis, which is 0 if a column is to its left.
fn panel<'a>(root: &Area<'a>, layout: &Layout, column: usize, row: usize) -> (Area<'a>, i32) {
    let (top, bottom) = layout.panels()[row];
    let below = if row == 0 { 0 } else { layout::X_AXIS_HEIGHT };
    let axis_width = if column == 0 { layout::Y_AXIS_WIDTH } else { 0 };
    let size = (layout.column_width() + axis_width, bottom - top + below);
    (root.clone().shrink((layout.left(column) - axis_width, top), size), axis_width)
}

fn power_of_ten(nanos: f64) -> String {
    match nanos {
        1e9.. => format!("{} s", nanos / 1e9),
        1e6.. => format!("{} ms", nanos / 1e6),
        1e3.. => format!("{} µs", nanos / 1e3),
        _ => format!("{nanos} ns"),
    }
}
