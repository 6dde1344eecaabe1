//! An SVG image under construction.

use super::text::escape;

/// The style sheet of all charts, with the colours of both themes. A page that contains fragments includes it once.
pub const STYLE: &str = include_str!("charts.css");

/// The horizontal alignment of a text at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn attribute(self) -> &'static str {
        match self {
            Self::Start => "",
            Self::Middle => " text-anchor=\"middle\"",
            Self::End => " text-anchor=\"end\"",
        }
    }
}

/// An SVG image. Texts and titles are escaped when they are added.
#[derive(Debug)]
pub struct Svg {
    title: String,
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// Starts an image of this size in pixels. The title is what screen readers read.
    pub(super) fn new(title: &str, width: f64, height: f64) -> Self {
        Self { title: escape(title), width, height, body: String::new() }
    }

    /// Returns the image for a page that includes [`STYLE`].
    #[must_use]
    pub fn fragment(&self) -> String {
        let Self { title, width, height, body } = self;
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">{body}</svg>")
    }

    /// Returns the image as a file of its own, with its style sheet and a background.
    #[must_use]
    pub fn file(&self) -> String {
        let Self { title, width, height, body } = self;
        let body = body.replace("><", ">\n<");
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"card\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>\n{body}\n</svg>\n"
        )
    }

    /// Adds a text.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        self.text_and_value(class, (x, y), anchor, text, ("", ""));
    }

    /// Adds a text and a value after it, which has a class of its own.
    pub(super) fn text_and_value(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        anchor: Anchor,
        text: &str,
        (value_class, value): (&str, &str),
    ) {
        let (anchor, text) = (anchor.attribute(), escape(text));
        self.body.push_str(&format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{text}"));
        if !value.is_empty() {
            self.body.push_str(&format!(" <tspan class=\"{value_class}\">{}</tspan>", escape(value)));
        }
        self.body.push_str("</text>");
    }

    /// Adds a letter, centred, with a tooltip.
    pub(super) fn letter(&mut self, (x, y): (f64, f64), letter: &str, tooltip: &str) {
        let (letter, tooltip) = (escape(letter), escape(tooltip));
        self.body.push_str(&format!(
            "<text class=\"letter\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{letter}<title>{tooltip}</title></text>"
        ));
    }

    /// Adds a path. An empty tooltip is left out, here and below.
    pub(super) fn path(&mut self, class: &str, data: &str, tooltip: &str) {
        self.element("path", class, &format!("d=\"{data}\""), tooltip);
    }

    /// Adds a circle.
    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tooltip: &str) {
        self.element("circle", class, &format!("cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\""), tooltip);
    }

    /// Adds a rectangle by its upper left corner, width, height and the radius of its corners.
    pub(super) fn rectangle(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        radius: f64,
        tooltip: &str,
    ) {
        let place = format!(
            "x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.0}\""
        );
        self.element("rect", class, &place, tooltip);
    }

    fn element(&mut self, element: &str, class: &str, attributes: &str, tooltip: &str) {
        self.body.push_str(&format!("<{element} class=\"{class}\" {attributes}"));
        if tooltip.is_empty() {
            self.body.push_str("/>");
        } else {
            self.body.push_str(&format!("><title>{}</title></{element}>", escape(tooltip)));
        }
    }
}

/// Returns the data of a path through these points.
pub(super) fn path_data(points: impl Iterator<Item = (f64, f64)>) -> String {
    points
        .enumerate()
        .map(|(at, (x, y))| format!("{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' }))
        .collect()
}
