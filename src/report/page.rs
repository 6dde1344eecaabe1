//! `--html`: the report as a page without scripts and without anything from elsewhere.

use crate::charts::{self, Line, Lines, Stroke, escape, grouped};
use crate::replay::report::STYLE;

use super::figures::{ExpertReport, Figure, Figures, Group, Point, PolicyReport, PreviewReport, Report};
use super::shares::{interval, percent};

fn cell(figure: Option<Figure>) -> String {
    figure.map_or_else(
        || "<td>–</td>".to_owned(),
        |figure| format!("<td>{} ({})</td>", percent(figure.value), interval(figure.low, figure.high)),
    )
}

fn table(head: &[&str], rows: &str) -> String {
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
}

fn section(title: &str, under: &str, content: &str) -> String {
    format!("<section><h2>{title}</h2><p class=\"under\">{under}</p>{content}</section>")
}

/// Returns the page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut policies: String = report.policies.iter().map(policy).collect();
    if policies.is_empty() {
        policies = "<p class=\"under\">The period has no decision.</p>".to_owned();
    }
    let ends: Vec<&str> = [&report.since, &report.until].into_iter().flatten().map(String::as_str).collect();
    let period = if ends.is_empty() { "all decisions".to_owned() } else { ends.join(" to ") };
    let skipped = |(reason, number): (&String, &u64)| format!("{} {}", grouped(*number), escape(reason));
    let skipped: Vec<String> = report.skipped.iter().map(skipped).collect();
    let skipped = if skipped.is_empty() {
        String::new()
    } else {
        format!("<p class=\"under\">Not used: {}.</p>", skipped.join("; "))
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Aegis report</title><style>{}{STYLE}</style></head><body><main>\n<h1>Moderation report</h1>\
         <p class=\"under\">{}</p>{policies}{skipped}</main></body></html>\n",
        charts::STYLE,
        escape(&period)
    )
}

fn policy(policy: &PolicyReport) -> String {
    let counts = policy.counts;
    let rate = policy.response_rate.map_or_else(|| "–".to_owned(), percent);
    let title = format!("<h1 style=\"margin-top:48px\">Policy {}</h1>", escape(&policy.policy));
    let text = format!(
        "<p class=\"under\">{} decisions, {} not allowed. {} reviews requested, {} answered ({rate}). {} labels that no request \
         had asked for are not used, because their probability is not known.</p>",
        grouped(counts.decisions),
        grouped(counts.flagged),
        grouped(counts.requests),
        grouped(counts.answered),
        grouped(policy.unrequested_labels),
    );
    let tile = |(name, figure): (&str, Option<Figure>)| {
        let value = figure.map_or_else(|| "–".to_owned(), |figure| percent(figure.value));
        let under = figure.map_or_else(String::new, |figure| interval(figure.low, figure.high));
        format!("<div class=\"tile\"><b>{value}</b><span>{name}<br>{under}</span></div>")
    };
    let tiles: String = policy.figures.named().into_iter().map(tile).collect();
    let sections = [
        notes(policy),
        estimates(&policy.figures),
        curve(policy),
        groups(&policy.groups),
        policy.preview.as_ref().map_or_else(String::new, preview),
        experts(&policy.experts),
    ];
    format!("{title}{text}<div class=\"tiles\">{tiles}</div>{}", sections.concat())
}

/// The decisions that the figures do not cover, and the verdict about the recall target.
fn notes(policy: &PolicyReport) -> String {
    let mut notes = Vec::new();
    if policy.nothing_to_judge > 0 {
        notes.push(format!(
            "{} decisions had nothing to judge and are left out.",
            grouped(policy.nothing_to_judge)
        ));
    }
    notes.extend(policy.lacks_text().map(|text| format!("Missing: {text}.")));
    if policy.counts.uncovered > 0 {
        notes.push(format!(
            "{} decisions could not be requested: the intervals allow for all of them being safe or unsafe.",
            grouped(policy.counts.uncovered)
        ));
    }
    if let Some((target, verdict)) = policy.recall_verdict() {
        notes.push(format!("Recall target {}: {verdict}.", percent(target)));
    }
    notes.iter().map(|note| format!("<p class=\"under\">{note}</p>")).collect()
}

fn estimates(figures: &Figures) -> String {
    let row = |(name, figure): (&str, Option<Figure>)| {
        let Some(figure) = figure else {
            return format!("<tr><td>{name}</td><td>–</td><td></td><td></td><td></td></tr>");
        };
        format!(
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            percent(figure.value),
            interval(figure.low, figure.high),
            grouped(figure.labels),
            interval(figure.unanswered.0, figure.unanswered.1)
        )
    };
    let rows: String = figures.named().into_iter().map(row).collect();
    section(
        "Estimates",
        "Each label counts with the probability of its request. The last column is the range over all answers that the \
         unanswered requests could have had: they may be unlike the others.",
        &table(&["", "estimate", "95 % interval", "labels", "if all were answered"], &rows),
    )
}

/// The choice of one figure.
type FigureOf = fn(&Figures) -> Option<Figure>;

/// The curve: precision and recall over the thresholds, with their intervals.
fn curve(policy: &PolicyReport) -> String {
    let points =
        |of: &dyn Fn(&Figure) -> f64, which: &dyn Fn(&Figures) -> Option<Figure>| -> Vec<(f64, f64)> {
            let point = |point: &Point| which(&point.figures).map(|figure| (point.threshold, of(&figure)));
            policy.curve.iter().filter_map(point).collect()
        };
    let mut lines = Vec::new();
    let figures: [(&str, FigureOf); 2] =
        [("recall", |figures| figures.recall), ("precision", |figures| figures.precision)];
    for (colour, (name, which)) in figures.into_iter().enumerate() {
        let which = &which;
        let line = |name: String, stroke, points| Line { name, stroke, points };
        lines.push(line(name.to_owned(), Stroke::Strong(colour), points(&|figure| figure.value, which)));
        lines.push(line(
            format!("{name}, lower end"),
            Stroke::Thin(colour),
            points(&|figure| figure.low, which),
        ));
        lines.push(line(
            format!("{name}, upper end"),
            Stroke::Thin(colour),
            points(&|figure| figure.high, which),
        ));
    }
    if lines.iter().all(|line| line.points.len() < 2) {
        return String::new();
    }
    let chart = Lines {
        title: "Precision and recall over thresholds".to_owned(),
        x: "threshold",
        y: "",
        lines,
        marks: vec![(policy.threshold, "in force".to_owned())],
        percent: true,
        from: Some(0.0),
    };
    section(
        "Other thresholds",
        "Precision and recall if everything from a threshold on had been flagged, and nothing else but what is decided without it. \
         The mark is the threshold in force.",
        &format!("<div class=\"scroll\">{}</div>", chart.svg().fragment()),
    )
}

fn groups(groups: &[Group]) -> String {
    let row = |group: &Group| {
        let figures = group.figures.as_ref()?;
        Some(format!(
            "<tr><td>{} {}</td><td>{}</td><td>{}</td>{}</tr>",
            group.by.word(),
            escape(&group.name),
            grouped(group.counts.decisions),
            grouped(group.counts.answered),
            figures.named().map(|(_, figure)| cell(figure)).concat(),
        ))
    };
    let rows: String = groups.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let names = Figures::default().named().map(|(name, _)| name);
    let head = [&["group", "decisions", "labels"][..], &names].concat();
    section("Groups", "Those with enough labels.", &table(&head, &rows))
}

fn preview(preview: &PreviewReport) -> String {
    let changed: String = preview
        .changed
        .iter()
        .map(|changed| {
            format!(
                "<tr><td>{} to {}</td><td>{}</td></tr>",
                changed.from,
                changed.to,
                grouped(changed.decisions)
            )
        })
        .collect();
    let under = format!(
        "{}. {} decisions would not change; {} of all are uncertain, because an expert was not asked that could matter then; {} \
         were decided by other versions of the policy.",
        escape(&preview.changes.join(", ")),
        grouped(preview.unchanged),
        grouped(preview.uncertain),
        grouped(preview.other_versions)
    );
    let row = |(name, figure): (&str, Option<Figure>)| format!("<tr><td>{name}</td>{}</tr>", cell(figure));
    let figures: String = preview.figures.named().into_iter().map(row).collect();
    let content = table(&["change", "decisions"], &changed) + &table(&["", "estimate"], &figures);
    section("Preview", &under, &content)
}

fn experts(experts: &[ExpertReport]) -> String {
    let row = |expert: &ExpertReport| {
        let period = &expert.period;
        let drift = expert.drift.map_or_else(
            || "–".to_owned(),
            |change| {
                format!(
                    "{:+.1} ({:+.1} to {:+.1})",
                    change.value * 100.0,
                    change.low * 100.0,
                    change.high * 100.0
                )
            },
        );
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td>{}{}{}{}<td>{drift}</td></tr>",
            escape(&expert.expert),
            grouped(period.votes),
            grouped(period.figures.labels),
            cell(period.agreement),
            cell(period.figures.precision),
            cell(period.figures.recall),
            cell(period.figures.false_positive_rate),
        )
    };
    let rows: String = experts.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "expert",
        "votes",
        "labels",
        "agreement with people",
        "precision",
        "recall",
        "false positives",
        "change of errors, points",
    ];
    section(
        "Experts",
        "As if each of them alone decided. Votes that were asked because they could change a decision do not count.",
        &table(&head, &rows),
    )
}
