//! A picture of one run: how much each node had when, beside the best possible end.

use std::fmt::Write as _;

use crate::outcome::Outcome;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// The whole file.
pub(crate) fn draw(run: &Outcome) -> String {
    let end = run.samples.last().map_or(0.0, |sample| sample.seconds);
    let end = end.max(run.ideal_seconds) * 1.04;
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let title = format!(
        "{}: {} nodes, {} MiB at {} Mbit/s",
        run.scenario.name(),
        run.nodes,
        run.bytes >> 20,
        run.rate_bits / 1_000_000
    );
    text(&mut svg, (LEFT, 22.0), "start", &title);
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0] {
        line(&mut svg, (x(0.0), y(tenth)), (x(end), y(tenth)), "#ddd");
        let words = format!("{:.0} %", tenth * 100.0);
        text(&mut svg, (LEFT - 8.0, y(tenth) + 4.0), "end", &words);
    }
    let step = step(end);
    let mut at = 0.0;
    while at < end {
        line(&mut svg, (x(at), y(0.0)), (x(at), y(0.0) + 5.0), "#888");
        text(
            &mut svg,
            (x(at), y(0.0) + 20.0),
            "middle",
            &format!("{at} s"),
        );
        at += step;
    }
    for (seconds, name, colour) in [
        (Some(run.line_seconds), "S/B", "#999"),
        (Some(run.ideal_seconds), "T*", "#c00"),
        (run.fault.as_ref().map(|it| it.at_seconds), "fault", "#e80"),
    ] {
        if let Some(seconds) = seconds {
            line(&mut svg, (x(seconds), y(0.0)), (x(seconds), y(1.0)), colour);
            let height = if name == "T*" {
                y(1.0) - 3.0
            } else {
                y(0.0) - 6.0
            };
            text(&mut svg, (x(seconds) + 3.0, height), "start", name);
        }
    }
    for (index, client) in run.clients.iter().enumerate() {
        let hue = index * 360 / run.clients.len().max(1);
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"hsl({hue},65%,42%)\" stroke-width=\"1.2\" points=\""
        );
        let mut whole = false;
        for sample in &run.samples {
            let share = sample.received[index] as f64 / run.bytes as f64;
            if !whole {
                let _ = write!(svg, "{:.1},{:.1} ", x(sample.seconds), y(share));
            }
            whole = share >= 1.0;
        }
        let _ = writeln!(svg, "\"><title>{}</title></polyline>", client.node);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round step that gives some ten marks.
fn step(end: f64) -> f64 {
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
    let fits = steps.into_iter().find(|step| end / step <= 12.0);
    fits.unwrap_or(500.0)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
        at.0, at.1
    );
}
