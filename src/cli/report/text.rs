//! The report as text.

use crate::charts::grouped;
use crate::cli::print::{self, printable, row};
use crate::ops::stdout::outln;
use crate::report::{
    Change, Counts, ExpertReport, Figure, Figures, Group, Point, PolicyReport, PreviewReport, Report,
    interval, percent,
};

/// The thresholds that the text shows of the curve: every tenth, and the one in force.
const TENTH: f64 = 10.0;

fn with_interval(figure: Option<Figure>) -> String {
    figure.map_or_else(
        || "-".to_owned(),
        |figure| format!("{} ({})", percent(figure.value), interval(figure.low, figure.high)),
    )
}

pub fn print(report: &Report) {
    let ends = [("from", &report.since), ("to", &report.until)];
    let period: Vec<String> =
        ends.iter().filter_map(|(word, end)| Some(format!("{word} {}", end.as_ref()?))).collect();
    let period = if period.is_empty() { "all decisions".to_owned() } else { period.join(" ") };
    outln!("{period}");
    if report.policies.is_empty() {
        outln!("no decisions: nothing to report");
        if let Some(outside) = &report.outside {
            outln!(
                "the {} decisions that were read have times from {} to {}",
                grouped(outside.decisions),
                outside.first,
                outside.last
            );
        }
    }
    for policy in &report.policies {
        outln!();
        print_policy(policy, report.min_labels);
    }
    for (reason, number) in &report.skipped {
        outln!("not used: {} {}", grouped(*number), printable(reason));
    }
}

fn print_policy(policy: &PolicyReport, min_labels: u64) {
    let counts = policy.counts;
    let unknown = if policy.known { "" } else { ", which the policies file does not have" };
    outln!("policy {}{unknown}, threshold {}", printable(&policy.policy), policy.threshold);
    let total: u64 = policy.actions.values().sum();
    let actions = policy.actions.iter().filter(|(_, number)| **number > 0);
    let actions: Vec<_> = actions.map(|(action, number)| format!("{} {action}", grouped(*number))).collect();
    let blank = match policy.nothing_to_judge {
        0 => String::new(),
        number => format!("; {} had nothing to judge", grouped(number)),
    };
    outln!("  decisions  {}: {}{blank}", grouped(total), actions.join(", "));
    outln!("  reviews    {}", reviews(counts));
    if policy.unrequested_labels > 0 {
        outln!(
            "  not used   {} labels that no request had asked for: their probability is not known",
            grouped(policy.unrequested_labels)
        );
    }
    if counts.uncovered > 0 {
        outln!(
            "  uncovered  {} decisions could not be requested: the intervals allow for all of them being safe or unsafe",
            grouped(counts.uncovered)
        );
    }
    if let Some(text) = policy.lacks_text() {
        outln!("  missing    {text}");
    }
    outln!();
    print_figures(&policy.figures);
    if let Some((target, verdict)) = policy.recall_verdict() {
        outln!("recall target {}: {verdict}", percent(target));
    }
    print_curve(policy);
    print_groups(&policy.groups, min_labels);
    if let Some(preview) = &policy.preview {
        print_preview(preview);
    }
    print_experts(&policy.experts);
}

fn reviews(counts: Counts) -> String {
    let rate = counts.response_rate().map_or_else(String::new, |rate| format!(" ({})", percent(rate)));
    let open = if counts.answered < counts.requests {
        "; the others may be unlike them: see the last column"
    } else {
        ""
    };
    format!("{} requested, {} answered{rate}{open}", grouped(counts.requests), grouped(counts.answered))
}

fn print_figures(figures: &Figures) {
    if figures.labels == 0 {
        outln!("no request is answered: there is nothing to estimate from");
        return;
    }
    let mut rows = vec![row(["", "estimate", "95 % interval", "labels", "worth", "if all were answered"])];
    for (name, figure) in figures.named() {
        rows.push(match figure {
            Some(figure) => vec![
                name.to_owned(),
                percent(figure.value),
                interval(figure.low, figure.high),
                grouped(figure.labels),
                figure.effective.map_or_else(|| "all".to_owned(), |effective| format!("{effective:.0}")),
                interval(figure.unanswered.0, figure.unanswered.1),
            ],
            None => row([name, "-", "", "", "", ""]),
        });
    }
    print::table(&rows, &[1, 3, 4]);
}

fn print_curve(policy: &PolicyReport) {
    let is_shown = |point: &&Point| {
        let tenths = point.threshold * TENTH;
        point.threshold == policy.threshold || (tenths - tenths.round()).abs() < 1e-9
    };
    if policy.figures.labels == 0 {
        return;
    }
    let mut rows = vec![row(["threshold", "flagged", "precision", "recall", "errors"])];
    rows.extend(policy.curve.iter().filter(is_shown).map(|point| {
        let mark = if point.threshold == policy.threshold { " *" } else { "" };
        vec![
            format!("{}{mark}", point.threshold),
            grouped(point.flagged),
            with_interval(point.figures.precision),
            with_interval(point.figures.recall),
            with_interval(point.figures.error_rate),
        ]
    }));
    outln!();
    print::table(&rows, &[1]);
}

fn print_groups(groups: &[Group], min_labels: u64) {
    let mut rows = vec![row(["", "", "decisions", "labels", "prevalence", "precision", "recall"])];
    for group in groups {
        let Some(figures) = &group.figures else { continue };
        rows.push(vec![
            group.by.word().to_owned(),
            printable(&group.name),
            grouped(group.counts.decisions),
            grouped(group.counts.answered),
            with_interval(figures.prevalence),
            with_interval(figures.precision),
            with_interval(figures.recall),
        ]);
    }
    if rows.len() > 1 {
        outln!();
        print::table(&rows, &[2, 3]);
    }
    let left = groups.len() + 1 - rows.len();
    if left > 0 {
        outln!("{left} groups have fewer than {min_labels} labels: see --min-labels");
    }
}

fn print_preview(preview: &PreviewReport) {
    outln!();
    outln!("preview: {}", printable(&preview.changes.join(", ")));
    let changed: u64 = preview.changed.iter().map(|changed| changed.decisions).sum();
    outln!("  {} decisions would change, {} would not", grouped(changed), grouped(preview.unchanged));
    for changed in &preview.changed {
        outln!("  {} from {} to {}", grouped(changed.decisions), changed.from, changed.to);
    }
    if preview.uncertain > 0 {
        outln!(
            "  {} of all are uncertain: an expert was not asked that could matter then",
            grouped(preview.uncertain)
        );
    }
    if preview.other_versions > 0 {
        outln!("  {} were decided by other versions of the policy", grouped(preview.other_versions));
    }
    print_figures(&preview.figures);
}

fn print_experts(experts: &[ExpertReport]) {
    if experts.is_empty() {
        return;
    }
    let compares = experts.iter().any(|expert| expert.before.is_some());
    let mut head = row(["expert", "votes", "labels", "agreement", "precision", "recall"]);
    if compares {
        head.push("change of errors".to_owned());
    }
    let mut rows = vec![head];
    for expert in experts {
        let period = &expert.period;
        let mut cells = vec![
            printable(&expert.expert),
            grouped(period.votes),
            grouped(period.figures.labels),
            with_interval(period.agreement),
            with_interval(period.figures.precision),
            with_interval(period.figures.recall),
        ];
        if compares {
            cells.push(expert.drift.map_or_else(|| "-".to_owned(), drift));
        }
        rows.push(cells);
    }
    outln!();
    print::table(&rows, &[1, 2]);
}

/// A change in percentage points.
fn drift(change: Change) -> String {
    let points = |value: f64| format!("{:+.1}", value * 100.0);
    let shifted = if change.low > 0.0 || change.high < 0.0 { " !" } else { "" };
    format!("{} points ({} to {}){shifted}", points(change.value), points(change.low), points(change.high))
}
