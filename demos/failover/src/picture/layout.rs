//! The layout of the picture, in pixels.

use std::time::Duration;

use crate::record::Mark;
use crate::run::Run;

pub(super) const WIDTH: u32 = 1_200;
/// The left edge of headings.
pub(super) const MARGIN: i32 = 24;
/// The top of the results of the runs.
pub(super) const RESULT: i32 = 98;
/// The left edge of the legends.
pub(super) const LEGEND: i32 = 290;
pub(super) const BETWEEN_ENTRIES: i32 = 18;
pub(super) const X_AXIS_HEIGHT: i32 = 54;
/// The width of the axis labels left of the first column.
pub(super) const Y_AXIS_WIDTH: i32 = 84;
pub(super) const FLAG_HEIGHT: i32 = 18;
/// The distance from the line of an event to the label of its flag.
pub(super) const FLAG_LABEL: i32 = 8;

const RIGHT_MARGIN: i32 = 24;
const BETWEEN_COLUMNS: i32 = 40;
const ANSWERS_TITLE: i32 = 196;
const TITLE_HEIGHT: i32 = 34;
const LANE_HEIGHT: i32 = 21;
const MOST_LANES: usize = 5;
const PANEL_HEIGHT: i32 = 230;
const BETWEEN_PANELS: i32 = 18;

pub(super) struct Layout {
    /// The length of the time axis.
    pub(super) seconds: f64,
    pub(super) height: u32,
    pub(super) answers_title: i32,
    pub(super) times_title: i32,
    answers_top: i32,
    times_top: i32,
    columns: i32,
    lanes: Vec<Vec<Option<usize>>>,
}

impl Layout {
    pub(super) fn new(runs: &[&Run]) -> Self {
        let ends = runs.iter().filter_map(|run| run.timeline.samples().last());
        let seconds = ends.map(|last| last.to.as_secs_f64()).fold(1.0, f64::max);
        let mut layout = Self {
            seconds,
            height: 0,
            answers_title: ANSWERS_TITLE,
            times_title: 0,
            answers_top: 0,
            times_top: 0,
            columns: i32::try_from(runs.len()).expect("at most two runs"),
            lanes: Vec::new(),
        };
        layout.lanes =
            runs.iter().enumerate().map(|(column, run)| layout.assign_lanes(column, run.timeline.marks())).collect();
        let lanes = layout.lanes.iter().flatten().flatten().map(|lane| lane + 1).max().unwrap_or(0);
        layout.answers_top = layout.top_of_lane(lanes);
        layout.times_title = layout.answers_top + PANEL_HEIGHT + BETWEEN_PANELS;
        layout.times_top = layout.times_title + TITLE_HEIGHT;
        layout.height = u32::try_from(layout.times_top + PANEL_HEIGHT + X_AXIS_HEIGHT + 6).expect("a positive height");
        layout
    }

    pub(super) fn column_width(&self) -> i32 {
        let free = WIDTH as i32 - Y_AXIS_WIDTH - RIGHT_MARGIN - BETWEEN_COLUMNS * (self.columns - 1);
        free / self.columns
    }

    /// Returns the left edge of a column's panels.
    pub(super) fn left(&self, column: usize) -> i32 {
        Y_AXIS_WIDTH + column as i32 * (self.column_width() + BETWEEN_COLUMNS)
    }

    pub(super) fn x_of(&self, column: usize, at: Duration) -> i32 {
        let share = at.as_secs_f64().min(self.seconds) / self.seconds;
        self.left(column) + (f64::from(self.column_width()) * share).round() as i32
    }

    /// Returns the top and the bottom of the panel of answers and of the panel of times.
    pub(super) fn panels(&self) -> [(i32, i32); 2] {
        [self.answers_top, self.times_top].map(|top| (top, top + PANEL_HEIGHT))
    }

    pub(super) fn top_of_lane(&self, lane: usize) -> i32 {
        self.answers_title + TITLE_HEIGHT + lane as i32 * LANE_HEIGHT
    }

    /// Returns the lane of the flag of each event in a column, 0 being the top one, or `None` if it has no room.
    pub(super) fn lanes(&self, column: usize) -> &[Option<usize>] {
        &self.lanes[column]
    }

    /// Assigns lanes so that no flag and no line of a later event crosses another flag.
    fn assign_lanes(&self, column: usize, marks: &[Mark]) -> Vec<Option<usize>> {
        let mut ends: Vec<i32> = Vec::new();
        let choose = |mark: &Mark| {
            let x = self.x_of(column, mark.at);
            let lane = ends.iter().rposition(|&end| end > x).map_or(0, |lowest_taken| lowest_taken + 1);
            if lane >= MOST_LANES {
                return None;
            }
            ends.resize(ends.len().max(lane + 1), 0);
            ends[lane] = x + FLAG_LABEL + (7.0 * mark.label.len() as f64) as i32;
            Some(lane)
        };
        marks.iter().map(choose).collect()
    }
}

/// Estimates the width of a text in the font size of legends.
pub(super) fn width_of(text: &str) -> i32 {
    (8.1 * text.chars().count() as f64).ceil() as i32
}

/// Returns whether the labels fit in one line beside a title.
pub(super) fn fits_in_legend<'a>(labels: impl Iterator<Item = &'a str>) -> bool {
    labels.map(|label| 20 + width_of(label) + BETWEEN_ENTRIES).sum::<i32>() < WIDTH as i32 - LEGEND - RIGHT_MARGIN
}
