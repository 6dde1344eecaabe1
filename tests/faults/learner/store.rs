//! sled harmed between two lives of a learner, while labels go on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aegis::store::{Opened, Store};

use super::{Site, about, decide, events, learned, send_labels};

/// Labels sent before a kill, before the next start and after it.
const LABELS: usize = 12;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

fn deleted(store: &Path, _: &Path) {
    fs::remove_dir_all(store).unwrap();
}

fn truncated(store: &Path, _: &Path) {
    for file in files(&store.join("sled")) {
        let file = File::options().write(true).open(file).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
}

fn flipped(store: &Path, _: &Path) {
    for file in files(&store.join("sled")) {
        let mut bytes = fs::read(&file).unwrap();
        // Everywhere that sled has written, not in the zeroes that it keeps for later.
        bytes.iter_mut().step_by(97).filter(|byte| **byte != 0).for_each(|byte| *byte ^= 4);
        fs::write(&file, bytes).unwrap();
    }
}

fn stale(store: &Path, old: &Path) {
    let reflects = |found: (Store, Opened)| {
        assert_eq!(found.1, Opened::Found);
        found.0.ledger_offset()
    };
    let now = reflects(Store::open(store).unwrap());
    deleted(store, old);
    copy(old, store);
    let then = reflects(Store::open(store).unwrap());
    println!("sled reflects the ledger to {then:?} again, not {now:?}");
    assert!(then < now && then.is_some());
}

/// How to harm a store, and what the learner says of it.
type Harm = (&'static str, fn(&Path, &Path), Option<&'static str>);

#[test]
fn whatever_happens_to_sled_the_state_is_that_of_a_replay() {
    const REBUILT: Option<&str> = Some("the store is rebuilt from the ledger topic");
    let harms: [Harm; 5] = [
        ("stale", stale, None),
        ("deleted", deleted, None),
        ("truncated", truncated, REBUILT),
        ("flipped", flipped, REBUILT),
        ("stale again", stale, None),
    ];
    let site = Site::new("harm");
    decide(&site, &events(LABELS * (3 * harms.len() + 2)));
    let mut sent = 0;
    let mut more = |count: usize| {
        send_labels(&site, (sent..sent + count).map(about));
        sent += count;
        sent
    };
    let mut learn = site.start_with("learn", &[], &[]);
    learned(&site, more(LABELS));
    learn.kill();
    let old = site.folder.path().join("old");
    copy(&site.store(), &old);
    learn = site.start_with("learn", &[], &[]);
    learned(&site, more(LABELS));
    for (name, harm, said) in harms {
        more(LABELS);
        learn.kill();
        harm(&site.store(), &old);
        more(LABELS);
        learn = site.start_with("learn", &[], &[]);
        let sent = more(LABELS);
        learned(&site, sent);
        println!("{name}: {sent} rounds");
        if let Some(words) = said {
            learn.says(words);
        }
    }
    learn.stop();
    site.verified();
}
