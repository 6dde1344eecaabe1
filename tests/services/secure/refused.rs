//! An unknown client gets an exit code and a message, and the message never contains the secret. `kafka::check_auth`
//! ends the process within its documented limits. Only it reports these words.

use super::site::{WRONG, holds_no_secret, said, secured};

/// Starts score with these settings and waits for its end.
fn refused(name: &str, brokers: &str, settings: &str, words: &[&str]) {
    let site = secured();
    site.configure(name, brokers, settings);
    let (code, log) = site.run("score", name).end();
    assert_eq!(code, Some(69), "{name}: {log}");
    let last = log.lines().last().unwrap();
    for word in words.iter().chain(&[brokers, "the brokers do not let this client in"]) {
        assert!(last.contains(word), "{name}: no {word} in {last}");
    }
    holds_no_secret(name, &log);
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let site = secured();
    refused("wrong-password", &site.sasl, &site.with_password("aegis-score", "wrong"), &["SCRAM-SHA-512"]);
}

/// Other commands than the roles report it as well.
#[test]
fn commands_tell_a_wrong_password_without_it() {
    let site = secured();
    site.configure("wrong-operator", &site.sasl, &site.with_password("aegis-operator", "wrong"));
    for command in [&["topics"][..], &["verify"], &["dlq", "list"]] {
        let refused = site.aegis("wrong-operator", command);
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(69), "{command:?}: {said}");
        for word in [&site.sasl, "SCRAM-SHA-512"] {
            assert!(said.contains(word), "{command:?}: no {word} in {said}");
        }
    }
}

/// A client certificate that the broker refuses, and a broker certificate that the client refuses.
#[test]
fn certificates_that_nobody_vouches_for_are_told() {
    let site = secured();
    for (name, certificate, authority) in
        [("impostor", "impostor", "authority"), ("stranger", "aegis-learn", "stranger")]
    {
        refused(name, &site.tls, &site.with_certificate(certificate, authority), &["certificate", "SSL"]);
    }
}

/// No error message contains a secret.
#[test]
fn errors_and_shown_configuration_hold_no_secret() {
    let site = secured();
    let shown = site.aegis("score", &["config", "show"]);
    assert!(shown.status.success() && said(&shown).contains("sasl.password"), "{}", said(&shown));
    site.well("score", &["check"]);
    for (name, settings) in [
        ("unclosed", format!("[kafka.settings]\n\"sasl.password\" = \"{WRONG}\n")),
        ("no-key", format!("[kafka.settings]\n\"sasl.pasword\" = \"{WRONG}\"\n")),
        ("no-number", format!("[kafka.settings]\n\"session.timeout.ms\" = \"{WRONG}\"\n")),
        ("no-table", format!("[kafka.secrets]\n\"sasl.password\" = [\"{WRONG}\"]\n")),
    ] {
        site.configure(name, &site.sasl, &settings);
        let refused = site.aegis(name, &["check"]);
        assert_eq!(refused.status.code(), Some(78), "{name}: {}", said(&refused));
    }
}
