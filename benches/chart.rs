//! Draws docs/benchmarks.svg from the tables of docs/benchmarks.md: throughput on the chat mix, and latency by load.
//! `cargo bench --bench chart [-- PAGE [IMAGE]]`.

use std::path::PathBuf;

use aegis::charts::{Bar, Bars, bars_file};

/// Returns the median, least and greatest of a cell such as `**203.3** (182.3 to 212.2)`.
fn measured(cell: &str) -> Option<(f64, (f64, f64))> {
    let number = |text: &str| text.trim().trim_matches('*').replace(',', "").parse().ok();
    let (median, rest) = cell.split_once(" (")?;
    let (least, most) = rest.split_once(')')?.0.split_once(" to ")?;
    Some((number(median)?, (number(least)?, number(most)?)))
}

/// Returns the cells of the table whose first heading starts with this text.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let start = format!("| {heading}");
    let mut lines =
        page.lines().skip_while(|line| !line.starts_with(&start)).take_while(|line| line.starts_with('|'));
    assert!(lines.next().is_some(), "the page has no table {heading:?}");
    lines.skip(1).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn bar(name: String, cell: &str, own: bool) -> Bar {
    let (median, spread) = measured(cell).unwrap_or_else(|| panic!("{name}: no measurement: {cell:?}"));
    Bar { name, median, spread, own }
}

fn main() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut paths = std::env::args().skip(1).filter(|word| word != "--bench").map(PathBuf::from);
    let page = paths.next().unwrap_or_else(|| docs.join("benchmarks.md"));
    let image = paths.next().unwrap_or_else(|| docs.join("benchmarks.svg"));
    let page = std::fs::read_to_string(page).expect("the page is read");

    let throughput = table(&page, "chat mix");
    let throughput = throughput.iter().map(|row| bar(row[0].to_owned(), row[1], row[0].starts_with("Aegis")));
    // Above three quarters of the greatest load a queue builds up, and its length depends on how long the run was.
    let latency = table(&page, "load, of the");
    let latency = latency.iter().filter(|row| !row[0].starts_with("90")).map(|row| {
        let own = row[0].starts_with(|first: char| first.is_ascii_digit());
        bar(if own { format!("Aegis at {}", row[0]) } else { row[0].to_owned() }, row[3], own)
    });
    let charts = [
        Bars {
            title: "Texts a second, chat mix, one head, two cores",
            note: "limit: a bare loop without Kafka; peers: Python consumers (plain, sorted, in a queue); line: least to greatest",
            bars: throughput.collect(),
        },
        Bars {
            title: "From produce to visible decision, 99th percentile, milliseconds",
            note: "open loop on the same texts, exactly once, commits each 20 ms",
            bars: latency.collect(),
        },
    ];
    std::fs::write(image, bars_file("Throughput and latency", &charts).file()).expect("the image is written");
}
