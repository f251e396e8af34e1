//! Boxes and arrows between them as SVG: what others point at stands further right.

use std::fmt::Write as _;

use crate::output::escape;

/// A box with a title and lines of text.
pub(crate) struct Box {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// An arrow from one box to another, by their numbers.
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) text: String,
    pub(crate) dashed: bool,
}

/// Pixels.
const LINE: usize = 18;
const LETTER: usize = 8;
const GAP: usize = 90;
const BETWEEN: usize = 24;
const EDGE: usize = 20;
const MOST_LETTERS: usize = 48;

/// Where a box stands.
#[derive(Clone, Copy, Default)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Place {
    /// How far down one of several arrows meets the side of a box, so that each has a place of its own.
    fn part(&self, at: usize, arrows: &[Arrow], same: impl Fn(&Arrow) -> bool) -> usize {
        let before = arrows.iter().take(at).filter(|other| same(other)).count();
        let all = arrows.iter().filter(|other| same(other)).count();
        self.y + self.height * (before + 1) / (all + 1)
    }
}

/// Draws them.
pub(crate) fn draw(title: &str, boxes: &[Box], arrows: &[Arrow]) -> String {
    let places = places(boxes, arrows);
    let width = places.iter().map(|place| place.x + place.width).max().unwrap_or(0) + EDGE;
    let height = places.iter().map(|place| place.y + place.height).max().unwrap_or(0) + EDGE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"13\">\n<title>{}</title>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        text(title)
    );
    for (at, arrow) in arrows.iter().enumerate() {
        if let (Some(from), Some(to)) = (places.get(arrow.from), places.get(arrow.to)) {
            let ends = [
                (from.x + from.width, from.part(at, arrows, |other| other.from == arrow.from)),
                (to.x, to.part(at, arrows, |other| other.to == arrow.to)),
            ];
            draw_arrow(&mut out, ends, arrow);
        }
    }
    for (one, place) in boxes.iter().zip(&places) {
        draw_box(&mut out, one, place);
    }
    out.push_str("</svg>\n");
    out
}

fn draw_box(out: &mut String, one: &Box, place: &Place) {
    let Place { x, y, width, height } = place;
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#eef4fb\" stroke=\"#4a7ab5\"/>"
    );
    let (left, first) = (x + 10, y + LINE);
    let _ =
        writeln!(out, "<text x=\"{left}\" y=\"{first}\" font-weight=\"bold\">{}</text>", text(&one.title));
    for (at, line) in one.lines.iter().enumerate() {
        let down = first + (at + 1) * LINE;
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{down}\" fill=\"#444\">{}</text>", text(line));
    }
}

fn draw_arrow(out: &mut String, [(x1, y1), (x2, y2)]: [(usize, usize); 2], arrow: &Arrow) {
    let dash = if arrow.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    let (bend1, bend2) = (x1 + GAP / 2, x2.saturating_sub(GAP / 2));
    let _ = writeln!(
        out,
        "<path d=\"M{x1} {y1}C{bend1} {y1} {bend2} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#555\"{dash} marker-end=\"url(#tip)\"/>"
    );
    let (x, y) = (x2.saturating_sub(8), y2.saturating_sub(5));
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"11\" text-anchor=\"end\" fill=\"#555\">{}</text>",
        text(&arrow.text)
    );
}

/// In columns: a box stands to the right of all that point at it.
fn places(boxes: &[Box], arrows: &[Arrow]) -> Vec<Place> {
    let mut columns = vec![0_usize; boxes.len()];
    // Without a circle the longest way has fewer steps than there are boxes.
    for _ in boxes {
        for arrow in arrows {
            let least = columns.get(arrow.from).map_or(0, |from| from + 1);
            if let Some(column) = columns.get_mut(arrow.to) {
                *column = (*column).max(least).min(boxes.len());
            }
        }
    }
    let width = |one: &Box| {
        let texts = one.lines.iter().chain([&one.title]);
        let letters = texts.map(|line| line.chars().count().min(MOST_LETTERS)).max().unwrap_or(0);
        letters * LETTER + 20
    };
    let mut places = vec![Place::default(); boxes.len()];
    let mut x = EDGE;
    for column in 0..=columns.iter().copied().max().unwrap_or(0) {
        let mut y = EDGE;
        let mut widest = 0;
        let own = boxes.iter().zip(&columns).zip(&mut places).filter(|((_, at), _)| **at == column);
        for ((one, _), place) in own {
            *place = Place { x, y, width: width(one), height: (one.lines.len() + 1) * LINE + 12 };
            y += place.height + BETWEEN;
            widest = widest.max(place.width);
        }
        if widest > 0 {
            x += widest + GAP;
        }
    }
    places
}

/// As text of XML, in one line that is not too long.
fn text(line: &str) -> String {
    let plain = escape::text(line);
    let mut out = String::with_capacity(plain.len());
    for (at, char) in plain.chars().enumerate() {
        match char {
            _ if at >= MOST_LETTERS => {
                out.push('…');
                break;
            }
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_at_stands_to_the_right() {
        let boxes = ["db", "tool", "web"].map(|name| Box { title: name.into(), lines: vec!["<x>".into()] });
        let arrow = |from, to| Arrow { from, to, text: "healthy".into(), dashed: false };
        let placed = places(&boxes, &[arrow(2, 0), arrow(2, 1), arrow(1, 0)]);
        assert!(placed[2].x < placed[1].x && placed[1].x < placed[0].x);
        let drawn = draw("a & b", &boxes, &[arrow(2, 0)]);
        assert!(drawn.contains("<title>a &amp; b</title>") && drawn.contains("&lt;x&gt;"));
        assert!(!drawn.contains("<x>"));
        // A circle ends too.
        assert_eq!(places(&boxes, &[arrow(0, 1), arrow(1, 0)]).len(), 3);
    }
}
