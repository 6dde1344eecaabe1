//! Remote experts, against a server on a real socket.

mod failures;
mod flow;
mod guards;
mod secrets;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use aegis::core::vote::Vote;
use aegis::experts::{Panel, PanelConfig};
use server::{Reply, Server};

use crate::experts_support::Folder;
use crate::experts_support::asked::{Said, outcome};

/// Returns the answer of the moderations API with this score of `hate`.
fn moderation(score: f64) -> Reply {
    Reply::ok(format!(
        "{{\"id\": \"x\", \"model\": \"omni-2\", \"results\": [{{\"flagged\": true, \"categories\": {{}}, \
         \"category_scores\": {{\"hate\": {score}, \"violence\": 0.125, \"illicit\": null}}}}]}}"
    ))
}

/// Adds a remote expert with this endpoint. `settings` follow in the section `[endpoint]`.
fn add_remote(folder: &Folder, id: &str, url: &str, settings: &str) {
    folder.manifest(
        id,
        &format!(
            "id = \"{id}\"\nkind = \"remote\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n[endpoint]\n\
             url = \"{url}\"\nmodel = \"omni\"\nprotocol = \"moderations\"\n{settings}"
        ),
    );
}

/// The deadline of requests that are answered, which must not come in the way of a slow machine.
const PATIENT: &str = "deadline_ms = 60000\n";

/// A folder with a remote expert `remote`, and rules that vote .875 on texts with the word bad, else .125.
fn folder(server: &Server, settings: &str) -> Folder {
    let folder = Folder::new();
    add_remote(&folder, "remote", &server.url, settings);
    folder.rules("rules", "base = 0.125\n[[terms]]\ncategory = \"c\"\nseverity = 0.875\nwords = [\"bad\"]\n");
    folder
}

/// Opens a panel without ONNX Runtime, which these experts do not need.
fn open(folder: &Folder, change: impl FnOnce(&mut PanelConfig)) -> Arc<Panel> {
    let mut config =
        PanelConfig { runtime: PathBuf::new(), sessions: Some(2), ..PanelConfig::new(folder.path()) };
    change(&mut config);
    Arc::new(Panel::open(config).unwrap())
}

/// Returns the votes about one text.
fn votes(panel: &Panel, text: &str) -> Vec<Vote> {
    panel.ask(&[text]).remove(0).votes
}

/// Returns the outcomes about one text: that of the remote expert, and that of the rules.
fn outcomes(panel: &Panel, text: &str) -> (Said, Said) {
    let votes = votes(panel, text);
    (outcome(&votes[0]), outcome(&votes[1]))
}
