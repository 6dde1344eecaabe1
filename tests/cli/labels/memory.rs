//! The memory of an export: it depends on the records that are being read, not on their number.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use aegis::codec::{Encoding, encode_review};
use aegis::core::review::ReviewRequest;

use super::{Desk, command};
use crate::support::flow::{read_all, reviews, send};
use crate::support::record;

/// The number of requests. Together they have 60 MB.
const MANY: usize = 20_000;
const PADDING: usize = 3_000;
/// The client holds at most 16 MB of records that were not read yet, and one answer of a broker.
const MOST_MIB: f64 = 40.0;

impl Desk {
    /// Exports all requests into a file. Returns the most memory that the command used, in MiB, and the number of requests
    /// in the file.
    fn export(&self) -> (f64, usize) {
        let out = self.path("requests.jsonl");
        let arguments = ["review", "export", "--format", "jsonl", "--out", out.to_str().unwrap()];
        let mut export = command(&self.folder, &arguments).stderr(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", export.id());
        // The peak only grows. What is added to it after the last reading, in the last milliseconds, is missed.
        let mut most: f64 = 0.0;
        let ended = loop {
            let page = fs::read_to_string(&status).unwrap();
            let line = page.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.map_or(0.0, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
            most = most.max(kib / 1024.0);
            match export.try_wait().unwrap() {
                Some(ended) => break ended,
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(ended.success(), "{ended}");
        (most, fs::read_to_string(out).unwrap().lines().count())
    }
}

#[test]
fn an_export_needs_no_more_memory_for_more_requests() {
    let desk = Desk::open();
    desk.events(0..1);
    let (one, written) = desk.export();
    assert_eq!(written, 1);
    let request = reviews(&read_all(&desk.connection, "moderation.review")).pop().unwrap();
    let further = |number: usize| {
        let mut request = ReviewRequest { conversation: "c".repeat(PADDING), ..request.clone() };
        request.id.event = format!("further-{number}");
        record("moderation.review", 0, encode_review(&request, Encoding::Json).unwrap())
    };
    send(&desk.connection, &(0..MANY).map(further).collect::<Vec<_>>());
    let (many, written) = desk.export();
    assert_eq!(written, 1 + MANY);
    assert!(many - one < MOST_MIB, "{many} MiB for {MANY} requests, {one} for one");
}
