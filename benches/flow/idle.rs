//! The cost of each role when no records arrive.

use std::thread;
use std::time::Duration;

use crate::broker::Site;

/// The duration of the measurement.
const LOOKED: Duration = Duration::from_secs(30);

/// Prints the share of a core that each role uses when it is ready and has no records to process.
pub fn run() {
    println!("\nIdle: processor time of each role over {LOOKED:?}, of one core");
    let site = Site::without_models("flow.idle", "flow.idle.events", "exactly-once");
    for (role, condition) in [("score", "score: partitions assigned"), ("learn", "learn: decisions indexed")]
    {
        let mut process = site.start(role);
        process.ready(condition);
        let before = process.cpu();
        thread::sleep(LOOKED); // no record arrives
        let share = (process.cpu() - before) / LOOKED.as_secs_f64();
        println!("{role}: {:.1} %", share * 100.0);
        process.stop();
    }
}
