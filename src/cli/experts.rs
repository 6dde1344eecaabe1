//! `aegis experts list` and `aegis experts test TEXT`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::print::{self, Output};
use super::{ConfigArgs, Failure, run};
use crate::config::Config;
use crate::core::event::Role;
use crate::core::hash::hex;
use crate::core::vote::Outcome;
use crate::experts::{ExpertInfo, Languages, Panel, View};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct ExpertsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the experts with their source and quality
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// The format of the output
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Prints every expert's vote on a text, with its duration and tokens
    Test {
        #[command(flatten)]
        config: ConfigArgs,
        /// The text to judge
        text: String,
    },
}

pub fn experts(args: &ExpertsArgs) -> Result<Exit, Failure> {
    match &args.command {
        Action::List { config, output: Output::Json } => {
            let config = config.load()?.config;
            let panel = run::panel(&config)?;
            let each = panel.experts().iter().map(|expert| as_json(expert, is_shadow(expert, &config)));
            print::json(&each.collect::<Vec<_>>())?;
        }
        Action::List { config, output: Output::Text } => {
            let config = config.load()?.config;
            let panel = run::panel(&config)?;
            let width = id_width(&panel);
            outln!("{:<width$} {:<11} {:<10} {:>5}  what", "expert", "kind", "state", "AUC");
            for expert in panel.experts() {
                let auc = expert.auc.map_or_else(|| "-".into(), |auc| format!("{auc:.3}"));
                let (id, kind, state) = (&expert.id, expert.kind.word(), expert.state.word());
                let (what, licence, reads) = (&expert.description, &expert.licence, reads(expert));
                let shadow = if is_shadow(expert, &config) { "; in shadow" } else { "" };
                outln!("{id:<width$} {kind:<11} {state:<10} {auc:>5}  {what} ({licence}){reads}{shadow}");
            }
            print_encoder(&panel);
        }
        Action::Test { config, text } => {
            let panel = run::panel(&config.load()?.config)?;
            let width = id_width(&panel);
            outln!("{:<width$} {:>8} {:>7} {:>9}  categories", "expert", "P(unsafe)", "tokens", "time");
            for found in panel.examine(text) {
                let tokens = found.tokens.map_or_else(|| "-".into(), |tokens| tokens.to_string());
                let time = format!("{:.2} ms", found.time.as_secs_f64() * 1e3);
                let (score, categories) = match &found.vote.outcome {
                    Outcome::Voted { score, categories } => {
                        let each = categories.iter().map(|one| format!("{} {:.3}", one.category, one.score));
                        (format!("{score:.4}"), each.collect::<Vec<_>>().join(", "))
                    }
                    Outcome::Abstained(reason) => ("abstains".into(), reason.word().into()),
                };
                outln!("{:<width$} {score:>8} {tokens:>7} {time:>9}  {categories}", found.vote.expert);
            }
            print_encoder(&panel);
        }
    }
    Ok(Exit::Success)
}

/// Returns the width of the column of ids.
fn id_width(panel: &Panel) -> usize {
    panel.experts().iter().map(|expert| expert.id.len()).max().unwrap_or_default().max(18)
}

/// Prints the encoders that give the learner's features: the first digits of the id are those that readiness names.
fn print_encoder(panel: &Panel) {
    if let Some(encoder) = panel.encoder_info() {
        let (id, precision, name) = (hex(&encoder.encoder), encoder.precision.word(), &encoder.id);
        let beside = match encoder.int8.as_slice() {
            [] => String::new(),
            others => format!(", beside {} in int8", others.join(", ")),
        };
        let partner = encoder
            .partner
            .as_ref()
            .map_or(String::new(), |partner| format!(" with {} for {}", partner.encoder, partner.languages));
        outln!("features by {name} in {precision}{partner}{beside} (experts.encoder), encoder {}", &id[..8]);
    }
}

/// Returns the part of a conversation that an expert reads, and the turns and languages on which it votes, unless these
/// are the usual ones: the judged turn, whatever its role and language are.
pub fn reads(expert: &ExpertInfo) -> String {
    let mut line = String::new();
    if expert.view != View::Turn {
        line += &format!("; reads {}", expert.view);
    }
    if expert.roles.len() < Role::ALL.len() {
        let roles: Vec<_> = expert.roles.iter().map(|role| role.word()).collect();
        line += &format!("; votes on turns of {}", roles.join(", "));
    }
    if expert.languages != Languages::All {
        line += &format!("; languages {}", expert.languages);
    }
    line
}

/// Returns the codes of an expert's languages; null if it reads all.
fn languages(languages: &Languages) -> Value {
    match languages {
        Languages::All => Value::Null,
        Languages::Only(languages) => languages.iter().map(|language| language.code()).collect(),
    }
}

/// Returns `true` for an expert in shadow mode.
pub fn is_shadow(expert: &ExpertInfo, config: &Config) -> bool {
    config.experts.is_shadow(&expert.id, expert.begins_in_shadow)
}

/// Returns an expert as JSON.
fn as_json(expert: &ExpertInfo, shadow: bool) -> Value {
    json!({
        "id": expert.id,
        "kind": expert.kind.word(),
        "state": expert.state.word(),
        "shadow": shadow,
        "auc": expert.auc,
        "description": expert.description,
        "licence": expert.licence,
        "source": expert.source,
        "categories": expert.categories,
        "encoder": expert.encoder,
        "precision": expert.encoder.as_ref().map(|_| expert.precision.word()),
        "view": expert.view.to_string(),
        "languages": languages(&expert.languages),
        "roles": expert.roles.iter().map(|role| role.word()).collect::<Vec<_>>(),
        "provider": expert.provider,
        "model_sha256": hex(&expert.model),
    })
}
