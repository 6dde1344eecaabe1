//! Signals: a child of this program is sent some.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use aegis::ops::shutdown::{Exit, Shutdown};

const CHILD: &str = "AEGIS_TEST_SIGNALS_CHILD";

/// Not a test by itself: says what it is told; ends when asked to finish, or with `stubborn` never.
#[test]
fn child_says_what_it_is_told() {
    let Some(manner) = std::env::var_os(CHILD) else { return };
    let shutdown = Shutdown::on_signals().expect("signals");
    println!("\nlistening");
    shutdown.wait();
    println!("asked {:?}", shutdown.reason().expect("somebody asked"));
    if manner == "stubborn" {
        assert!(shutdown.wait_for_abort(Duration::from_secs(60)));
        println!("aborted");
        loop {
            std::thread::park();
        }
    }
    std::process::exit(shutdown.exit().code().into());
}

fn child(manner: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "signals::child_says_what_it_is_told", "--nocapture", "--test-threads=1"])
        .env(CHILD, manner)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    until(&mut lines, "listening");
    (child, lines)
}

fn until(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) {
    assert!(lines.any(|line| line.expect("a line") == wanted), "the child ended before it said {wanted}");
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

fn code(mut child: Child) -> Option<i32> {
    child.wait().expect("gone").code()
}

#[test]
fn sigterm_ends_with_success() {
    let (child, mut lines) = child("obedient");
    send(&child, "-TERM");
    until(&mut lines, "asked Terminate");
    assert_eq!(code(child), Some(0));
}

#[test]
fn ctrl_c_ends_with_130() {
    let (child, mut lines) = child("obedient");
    send(&child, "-INT");
    until(&mut lines, "asked Interrupt");
    assert_eq!(code(child), Some(Exit::Interrupted.code().into()));
}

#[test]
fn the_second_signal_aborts_and_the_third_ends_the_process() {
    let (child, mut lines) = child("stubborn");
    send(&child, "-TERM");
    until(&mut lines, "asked Terminate");
    send(&child, "-TERM");
    until(&mut lines, "aborted");
    send(&child, "-INT");
    assert_eq!(code(child), Some(130));
}
