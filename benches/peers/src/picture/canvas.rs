//! The parts that all pictures share: background, head, colours and axis ticks.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub const WIDTH: u32 = 1_000;
pub const HEAD_HEIGHT: u32 = 70;
pub const INK: RGBColor = RGBColor(40, 40, 40);
pub const FAINT: RGBColor = RGBColor(225, 225, 225);
const MARGIN: i32 = 20;

const CONNRING: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(86, 180, 233), RGBColor(0, 60, 110), RGBColor(90, 120, 200)];
const FLOOR: [RGBColor; 3] = [RGBColor(120, 120, 120), RGBColor(165, 165, 165), RGBColor(80, 80, 80)];
/// Distinguishable with red-green colour blindness.
const PEERS: [RGBColor; 6] = [
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(180, 170, 40),
    RGBColor(110, 70, 40),
];

/// Assigns colours to the contestants of a picture: blue to connring, grey to the floor.
#[derive(Default)]
pub struct Colours {
    used: [usize; 3],
}

impl Colours {
    /// Returns the next unused colour, or reuses colours when all are taken.
    pub fn next(&mut self, contestant: &str) -> RGBColor {
        let (family, colours) = palette(contestant);
        self.used[family] += 1;
        colours[(self.used[family] - 1) % colours.len()]
    }
}

/// Returns the colour of a contestant in a picture that labels each contestant: one for connring, one for the floor,
/// one for all others.
pub fn colour(contestant: &str) -> RGBColor {
    palette(contestant).1[0]
}

fn palette(contestant: &str) -> (usize, &'static [RGBColor]) {
    match contestant {
        name if name.starts_with("connring") => (0, &CONNRING),
        name if name.starts_with("floor") || name == "bare" => (1, &FLOOR),
        _ => (2, &PEERS),
    }
}

/// Makes a white background with `height` pixels below the head, and writes the head.
pub fn paper<'a>(path: &'a Path, height: u32, title: &str, origin: &str) -> Result<Area<'a>, Box<dyn Error>> {
    let root = SVGBackend::new(path, (WIDTH, HEAD_HEIGHT + height)).into_drawing_area();
    root.fill(&WHITE)?;
    write(&root, title, (MARGIN, 24), 21, HPos::Left)?;
    write(&root, origin, (MARGIN, 50), 14, HPos::Left)?;
    Ok(root)
}

/// Writes text, vertically centred at `y`.
pub fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, side: HPos) -> Result<(), Box<dyn Error>> {
    let style = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// Formats a number for an axis.
pub fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        // Cuts off rounding errors such as that of 0.1 + 0.2.
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

/// Returns the ticks of a logarithmic axis, from below `least` to above `most`: 1, 2 and 5 times the powers of ten, or
/// only the powers if there are many.
pub fn ticks(least: f64, most: f64) -> Vec<f64> {
    let steps: &[f64] = if most / least > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (least.log10().floor() as i32)..=(most.log10().ceil() as i32);
    let all: Vec<_> = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power))).collect();
    let first = all.iter().rposition(|&tick| tick <= least).unwrap_or(0);
    let last = all.iter().position(|&tick| tick >= most).unwrap_or(all.len() - 1);
    all[first..=last].to_vec()
}

/// Returns the ticks of a linear axis from zero to above `most`, in four to ten steps of 1, 2 or 5 times a power of
/// ten.
pub fn ticks_from_zero(most: f64) -> Vec<f64> {
    let power = 10_f64.powf(most.log10().floor());
    let step = [0.1, 0.2, 0.5, 1.0].map(|part| part * power).into_iter().find(|step| most / step <= 9.0);
    let step = step.unwrap_or(2.0 * power);
    (0..=(most / step).ceil() as i32).map(|tick| f64::from(tick) * step).collect()
}
