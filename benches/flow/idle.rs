//! The cost of each role when no records arrive.

use std::thread;
use std::time::Duration;

use crate::broker::Site;

/// The time over which it is measured.
const LOOKED: Duration = Duration::from_secs(30);

/// Both roles, ready and without anything to do: their share of a core.
pub fn run() {
    println!("\nIdle: processor time of each role over {LOOKED:?}, of one core");
    let site = Site::without_models("flow.idle", "flow.idle.events", "exactly-once");
    for (role, condition) in [("score", "score: partitions assigned"), ("learn", "learn: decisions indexed")]
    {
        let mut process = site.start(role);
        process.ready(condition);
        let before = process.cpu();
        thread::sleep(LOOKED); // nothing happens, which is what is measured
        let share = (process.cpu() - before) / LOOKED.as_secs_f64();
        println!("{role}: {:.1} %", share * 100.0);
        process.stop();
    }
}
