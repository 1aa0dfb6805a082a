//! Curves over time as inline SVG, drawn by hand.

use std::fmt::Write as _;

pub const WIDTH: f64 = 980.0;
const LEFT: f64 = 70.0;
const HEIGHT: f64 = 90.0;
const TOP: f64 = 18.0;

/// One curve.
pub struct Curve<'a> {
    pub name: &'a str,
    pub colour: &'a str,
    /// Milliseconds and values, in order of time.
    pub points: Vec<(u64, f64)>,
}

/// A span in which a fault went on, and until when what it hurt was not whole.
pub struct Band {
    pub name: String,
    pub from: u64,
    pub to: u64,
    pub healed: u64,
}

/// Where a time is drawn.
fn x(at: u64, end: u64) -> f64 {
    LEFT + (WIDTH - LEFT) * at as f64 / end.max(1) as f64
}

/// Curves over the same time, with the bands behind them.
pub fn curves(title: &str, end: u64, curves: &[Curve<'_>], bands: &[Band]) -> String {
    let most = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value)).fold(0.0, f64::max);
    let scale = if most > 0.0 { most } else { 1.0 };
    let bottom = TOP + HEIGHT;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><title>{}</title>", bottom + 20.0, escape(title));
    for band in bands {
        let (from, to) = (x(band.from, end), x(band.to, end));
        let _ = write!(
            svg,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
            (to - from).max(1.0)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
        LEFT - 6.0,
        TOP + 8.0,
        number(most),
        LEFT - 6.0
    );
    let mut at = LEFT;
    for curve in curves {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|(time, value)| format!("{:.1},{:.1}", x(*time, end), bottom - HEIGHT * value / scale))
            .collect();
        let _ = write!(svg, "<polyline fill=\"none\" stroke=\"{}\" points=\"{}\"/>", curve.colour, points.join(" "));
        let _ = write!(svg, "<text x=\"{at}\" y=\"12\" fill=\"{}\">{}</text>", curve.colour, escape(curve.name));
        at += 14.0 + 7.0 * curve.name.len() as f64;
    }
    for tick in 0..=10 {
        let time = end * tick / 10;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>",
            x(time, end).min(WIDTH - 14.0),
            bottom + 14.0,
            time as f64 / 1000.0
        );
    }
    svg + "</svg>"
}

/// A line for each fault: how long it went on, and, paler, how long until all it hurt was whole.
pub fn faults(end: u64, bands: &[Band]) -> String {
    let height = 18.0 * bands.len() as f64 + 6.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>faults</title>");
    for (line, band) in bands.iter().enumerate() {
        let y = 18.0 * line as f64 + 3.0;
        for (class, to) in [("healing", band.healed), ("fault", band.to)] {
            let width = (x(to, end) - x(band.from, end)).max(2.0);
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"13\"/>",
                x(band.from, end)
            );
        }
        // Beside the bar where there is room.
        let right = x(band.healed.max(band.to), end) + 4.0;
        let (at, anchor) = if right < WIDTH - 320.0 { (right, "start") } else { (x(band.from, end) - 4.0, "end") };
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 11.0,
            escape(&band.name)
        );
    }
    svg + "</svg>"
}

fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
