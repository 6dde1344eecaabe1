//! Votes of remote experts, requests in flight, equal texts, and connections.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aegis::core::event::{Conversation, Role, Turn};
use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Panel, UnderLoad};

use super::server::{Reply, Request, Server};
use super::{PATIENT, add_remote, folder, moderation, open, outcomes, votes};
use crate::experts_support::Folder;
use crate::experts_support::asked::{outcome, wait_until};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A gate that a test opens.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

#[test]
fn a_moderation_is_a_vote_with_categories() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, PATIENT), |_| {});
    let votes = votes(&panel, "a \"bad\"\ntext");
    let Outcome::Voted { score, categories } = &votes[0].outcome else { panic!("{votes:?}") };
    let of = |slug: &str| categories.iter().find(|found| found.category == slug).unwrap().score;
    assert_eq!((*score, of("hate"), of("violence"), of("criminal-planning")), (0.75, 0.75, 0.125, 0.0));
    assert_eq!((votes[0].model, votes[0].revision.as_deref()), (None, Some("omni; omni-2")));
    assert!(votes[1].model.is_some() && votes[1].revision.is_none());
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /v1/judge HTTP/1.1");
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, serde_json::json!({ "model": "omni", "input": "a \"bad\"\ntext" }));
    assert!(request.headers.contains(&"content-type: application/json".to_owned()), "{request:?}");
}

#[test]
fn a_remote_expert_is_examined_like_the_others() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, PATIENT), |_| {});
    let examined = panel.examine("a bad text");
    let found: Vec<_> = examined.iter().map(|one| (outcome(&one.vote), one.tokens)).collect();
    assert_eq!(found, [(Ok(0.75), None), (Ok(0.875), None)]);
    assert!(!examined[0].time.is_zero());
}

#[test]
fn any_json_is_sent_and_read_by_template_and_pointers() {
    let server = Server::start(|_| Reply::ok("{\"out\": [{\"p\": 0.5}, {\"p\": 0.25}]}"));
    let folder = Folder::new();
    let manifest = format!(
        "id = \"any\"\nkind = \"remote\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n[endpoint]\n\
         url = \"{}\"\nprotocol = \"json\"\n{PATIENT}[request]\nbody = '''{{\"q\": {{{{ text }}}}, \"as\": {{{{ role \
         }}}}}}'''\n[[labels]]\nname = \"/out/0/p\"\nunsafe = true\n[[labels]]\nname = \"/out/1/p\"\ncategory = \
         \"hate\"\nunsafe = true\n",
        server.url
    );
    folder.manifest("any", &manifest);
    // The remote expert is the only one of its panel.
    let panel = open(&folder, |_| {});
    let votes = votes(&panel, "say \"hi\"");
    let Outcome::Voted { score, categories } = &votes[0].outcome else { panic!("{votes:?}") };
    assert_eq!((*score, categories.len(), categories[0].score), (0.5, 1, 0.25));
    assert_eq!(server.requests()[0].body, "{\"q\": \"say \\\"hi\\\"\", \"as\": \"user\"}");
}

/// A server that scores what it is sent as a whole: .9 if it has `bad`, or both `first half` and `second half`.
fn judge_as_a_whole(request: &Request) -> Reply {
    let has = |text: &str| request.body.contains(text);
    let is_harmful = has("bad") || (has("first half") && has("second half"));
    let score = if is_harmful { 0.9 } else { 0.1 };
    let scores = serde_json::json!({ "hate": score });
    Reply::ok(serde_json::json!({ "p": score, "results": [{ "category_scores": scores }] }).to_string())
}

/// A conversation of these turns, of which the last is judged.
fn conversation(texts: &[&str]) -> Conversation {
    let turn = |text: &&str| Turn { role: Role::User, text: (*text).to_owned() };
    Conversation { turns: texts.iter().map(turn).collect(), judged: texts.len() - 1 }
}

/// A panel with a remote expert that reads the whole conversation. `settings` are of its section `[endpoint]`.
fn with_view(server: &Server, protocol: &str, settings: &str) -> Arc<Panel> {
    let folder = Folder::new();
    add_remote(&folder, "remote", &server.url, &format!("{PATIENT}{settings}"));
    let path = folder.path().join("remote/manifest.toml");
    let json = "[request]\nbody = '{\"turns\": {{ turns }}}'\n[[labels]]\nname = \"/p\"\nunsafe = true\n";
    let text =
        std::fs::read_to_string(&path).unwrap().replace("[endpoint]", "view = \"conversation\"\n[endpoint]");
    let text = text.replace("\"moderations\"", &format!("\"{protocol}\""));
    std::fs::write(&path, if protocol == "json" { text + json } else { text }).unwrap();
    open(&folder, |_| {})
}

#[test]
fn an_api_that_judges_a_text_as_a_whole_counts_for_what_the_turn_adds() {
    for protocol in ["moderations", "json"] {
        let server = Server::start(judge_as_a_whole);
        let panel = with_view(&server, protocol, "");
        let ask = |texts: &[&str]| panel.ask(&[conversation(texts)]).remove(0).votes.remove(0);
        let near = |vote: &Vote| outcome(vote).map(|p| (p * 100.0).round() / 100.0);
        assert_eq!(near(&ask(&["bad"])), Ok(0.9));
        assert_eq!(server.requests().len(), 1, "{protocol}: there is no history");
        // A harmless turn after a bad one, and a text that is split.
        let harmless = ask(&["bad", "fine"]);
        assert_eq!((near(&harmless), harmless.truncated), (Ok(0.1), false), "{protocol}");
        // The history of this text is the one before.
        assert_eq!(server.requests().len(), 3, "{protocol}");
        assert_eq!(near(&ask(&["bad", "fine", "also bad"])), Ok(0.9));
        assert_eq!(near(&ask(&["first half", "second half"])), Ok(0.89), "{protocol}");
        let requests = server.requests().len();
        assert_eq!(near(&ask(&["", " ", "blank"])), Ok(0.1));
        assert_eq!(server.requests().len(), requests + 1, "{protocol}: the history is blank");
    }
}

#[test]
fn an_old_turn_that_is_left_out_of_the_whole_is_left_out_of_the_history() {
    let server = Server::start(judge_as_a_whole);
    let panel = with_view(&server, "moderations", "max_chars = 22\n");
    let turns = conversation(&["bad words of any kind", "first half", "second half"]);
    let vote = panel.ask(&[turns]).remove(0).votes.remove(0);
    assert!(vote.truncated && outcome(&vote).unwrap() > 0.8, "{vote:?}");
    assert!(server.requests().iter().all(|request| !request.body.contains("bad")));
}

/// Two workers could not hold three hundred requests, and they are free for the other experts meanwhile.
#[test]
fn hundreds_of_requests_in_flight_occupy_no_worker() {
    const TEXTS: u64 = 300;
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = Server::start(move |_| {
        entrance.pass();
        moderation(0.75)
    });
    let folder = folder(&server, &format!("{PATIENT}max_in_flight = 300\n"));
    let panel = open(&folder, |config| config.cheap = vec!["rules".to_owned()]);
    let mut stream = panel.stream(512, Duration::ZERO).unwrap();
    for key in 0..TEXTS {
        stream.submit_to(key, &*format!("text {key}"), UnderLoad::All).unwrap();
    }
    server.wait_for_requests(300);
    // Without the remote expert, a text is answered at once.
    stream.shrink(true);
    stream.submit(TEXTS, "a bad one").unwrap();
    let (key, answer) = stream.next(ANSWER_TIMEOUT).unwrap();
    let votes: Vec<_> = answer.votes.iter().map(outcome).collect();
    assert_eq!((key, votes), (TEXTS, vec![Err(Abstention::Overload), Ok(0.875)]));
    gate.open();
    for _ in 0..TEXTS {
        let (_, answer) = stream.next(ANSWER_TIMEOUT).expect("every text is answered");
        assert_eq!(outcome(&answer.votes[0]), Ok(0.75));
    }
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    let (gate, most) = (Gate::default(), Arc::new(Mutex::new((0, 0))));
    let (entrance, in_flight) = (gate.clone(), Arc::clone(&most));
    let counted = Arc::clone(&most);
    let server = Server::start(move |_| {
        {
            let mut counts = in_flight.lock().unwrap();
            counts.0 += 1;
            counts.1 = counts.1.max(counts.0);
        }
        entrance.pass();
        in_flight.lock().unwrap().0 -= 1;
        moderation(0.75)
    });
    let panel = open(&folder(&server, &format!("{PATIENT}max_in_flight = 3\n")), |_| {});
    let mut stream = panel.stream(64, Duration::ZERO).unwrap();
    (0..20).for_each(|key| stream.submit(key, &*format!("text {key}")).unwrap());
    wait_until("three are in flight", || counted.lock().unwrap().0 == 3);
    gate.open();
    (0..20).for_each(|_| assert!(stream.next(ANSWER_TIMEOUT).is_some()));
    assert_eq!(most.lock().unwrap().1, 3);
}

#[test]
fn equal_texts_share_a_request_and_later_ones_the_cache() {
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = Server::start(move |_| {
        entrance.pass();
        moderation(0.75)
    });
    let panel = open(&folder(&server, PATIENT), |_| {});
    let mut stream = panel.stream(64, Duration::ZERO).unwrap();
    (0..10).for_each(|key| stream.submit(key, "the same").unwrap());
    server.wait_for_requests(1);
    gate.open();
    let answers: Vec<_> = (0..10).map(|_| stream.next(ANSWER_TIMEOUT).unwrap().1).collect();
    assert!(answers.iter().all(|answer| outcome(&answer.votes[0]) == Ok(0.75)));
    assert_eq!(answers.iter().filter(|answer| !answer.votes[0].cached).count(), 1);
    let later = votes(&panel, "the same").remove(0);
    assert_eq!((later.cached, later.revision.as_deref()), (true, Some("omni; omni-2")));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_connection_is_used_again() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, PATIENT), |_| {});
    (0..5).for_each(|number| drop(votes(&panel, &format!("text {number}"))));
    assert_eq!((server.requests().len(), server.connections()), (5, 1));
}

#[test]
fn a_long_text_is_cut_and_the_vote_says_so() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, &format!("{PATIENT}max_chars = 4\n")), |_| {});
    assert!(votes(&panel, "12345")[0].truncated && !votes(&panel, "1234")[0].truncated);
    // Both are the same request.
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_end_of_a_panel_gives_requests_up() {
    let server = Server::start(|_| Reply::Silence);
    let panel = open(&folder(&server, "deadline_ms = 600000\n"), |_| {});
    let mut stream = panel.stream(8, Duration::ZERO).unwrap();
    stream.submit(1, "text").unwrap();
    server.wait_for_requests(1);
    drop(stream);
    drop(panel);
    server.wait_for_close();
}

#[test]
fn two_experts_ask_the_same_server_with_models_of_their_own() {
    let server = Server::start(|request| moderation(if request.body.contains("omni") { 0.75 } else { 0.5 }));
    let folder = folder(&server, PATIENT);
    add_remote(&folder, "second", &server.url, PATIENT);
    let path = folder.path().join("second/manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"omni\"", "\"other\"");
    std::fs::write(&path, text).unwrap();
    let panel = open(&folder, |_| {});
    let said: Vec<_> = votes(&panel, "text").iter().map(outcome).collect();
    assert_eq!(said, [Ok(0.75), Ok(0.125), Ok(0.5)]);
    assert_eq!(outcomes(&panel, "text").0, Ok(0.75));
}

#[test]
fn a_panel_without_remote_experts_sends_nothing() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, PATIENT), |config| config.remote = false);
    let said: Vec<_> = votes(&panel, "a bad text").iter().map(outcome).collect();
    assert_eq!((said, server.requests().len()), (vec![Ok(0.875)], 0));
}

#[test]
fn a_probe_says_which_endpoints_answer() {
    let server = Server::start(|request| match request.body.contains("How are you?") {
        true => moderation(0.125),
        false => Reply::Silence,
    });
    let wrong = Server::start(|_| Reply::Answer(404, "", String::new()));
    let folder = folder(&server, PATIENT);
    add_remote(&folder, "wrong", &wrong.url, PATIENT);
    let panel = open(&folder, |_| {});
    assert_eq!(panel.probe_remotes(), [("remote", Ok(())), ("wrong", Err(Abstention::Failed))]);
}
