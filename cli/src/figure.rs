//! A small picture of curves over rounds, as SVG: written by hand, readable by people.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Colours that people tell apart, whatever eyes they have (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

/// One line of a picture: its name and (round, value).
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture.
pub(crate) struct Figure {
    pub(crate) title: String,
    /// What goes up.
    pub(crate) measure: String,
    pub(crate) series: Vec<Series>,
    /// A level to reach, with its words.
    pub(crate) target: Option<(f64, String)>,
}

impl Figure {
    /// Writes the picture.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.svg()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The picture's text.
    pub(crate) fn svg(&self) -> String {
        let frame = Frame::around(self);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escaped(&self.title)
        );
        frame.axes(&mut svg, &self.measure);
        if let Some((level, words)) = &self.target {
            let y = frame.y(*level);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#777\" stroke-dasharray=\"5 4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
                WIDTH - RIGHT,
                LEFT + 6.0,
                y - 4.0,
                escaped(words)
            );
        }
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let points = series.points.iter().filter(|(_, value)| value.is_finite());
            let points: Vec<String> = points
                .map(|&(x, value)| format!("{:.1},{:.1}", frame.x(x), frame.y(value)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                points.join(" ")
            );
            let y = HEIGHT - BOTTOM - 10.0 - 16.0 * (self.series.len() - 1 - at) as f64;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT - 6.0,
                escaped(&series.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// What the axes span.
struct Frame {
    rounds: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn around(figure: &Figure) -> Self {
        let points = || figure.series.iter().flat_map(|series| &series.points);
        let target = figure.target.iter().map(|(level, _)| *level);
        let values: Vec<f64> =
            points().map(|point| point.1).chain(target).filter(|v| v.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low.min(0.0), low.max(1.0)) };
        let room = (high - low) * 0.05;
        let rounds = points().map(|point| point.0).fold(1.0, f64::max);
        Self { rounds, low: low - room, high: high + room }
    }

    fn x(&self, round: f64) -> f64 {
        LEFT + round / self.rounds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, svg: &mut String, measure: &str) {
        for tick in ticks(self.low, self.high) {
            let y = self.y(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                shown(tick)
            );
        }
        for tick in ticks(0.0, self.rounds) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.x(tick),
                HEIGHT - BOTTOM + 16.0,
                shown(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{0:.1}H{1:.1}\" fill=\"none\" stroke=\"#333\"/>\
             <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"middle\">round</text>\
             <text x=\"14\" y=\"{4:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {4:.1})\">{5}</text>",
            HEIGHT - BOTTOM,
            WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escaped(measure)
        );
    }
}

/// Round numbers between two values, five or so: steps of 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|at| at as f64 * step).collect()
}

fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Figure, Series, shown, ticks};

    #[test]
    fn a_picture_has_its_lines_level_and_words() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(1.0, 0.5), (2.0, f64::NAN), (10.0, 0.95)],
        };
        let figure = Figure {
            title: "a < b".to_owned(),
            measure: "accuracy".to_owned(),
            series: vec![series("one"), series("two")],
            target: Some((0.9, "the paper's".to_owned())),
        };
        let svg = figure.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("the paper's"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // The last round stands at the right end: 640 − 16.
        assert!(svg.contains("624.0,"), "{svg}");
    }

    #[test]
    fn ticks_are_round_numbers_within() {
        assert_eq!(ticks(0.0, 20.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let shown: Vec<String> = ticks(0.61, 0.99).into_iter().map(shown).collect();
        assert_eq!(shown, ["0.7", "0.8", "0.9"]);
    }
}
