//! The flags of `aegis evaluate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::EvaluateError;
use super::attacks::Attack;
use super::labels::Meaning;
use super::layout::{CategoriesAt, Field, KindAt, LabelAt, Layout, Part, RoleAt, TextAt};
use super::presets::{self, Preset};
use crate::core::event::Role;
use crate::core::learners::{LearnerSpec, Name};
use crate::rows::Format;

/// The heading of the flags for files.
const FILES: &str = "Labelled files";
/// The heading of the flags for fields.
const FIELDS: &str = "Fields of a row, by name or by JSON pointer";
/// The heading of the flags for attacks.
const ATTACKS: &str = "Attacks";

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}

/// Measures every expert, plain majority and the learner on labelled text.
///
/// With files, on their rows. Without, on Aegis's own held-out sets, for docs/panel-quality.md.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Labelled files: JSON lines, a JSON array, CSV, Parquet or Avro; .gz and .zst are decompressed; - is standard input
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The folder of experts, with the demo's texts; `make setup` fills it
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub(super) models: PathBuf,
    /// The folder of the public labelled sets, for Aegis's own developers; read in place
    #[arg(long, value_name = "DIR", env = "AEGIS_SHARED_DATA", default_value = "../shared/data")]
    pub(super) data: PathBuf,
    /// Texts at most, chosen by their hash; of a held-out set [default: 300], of files [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(super) texts: Option<u32>,
    /// Folder for votes, so that a second run needs no inference
    #[arg(long, value_name = "DIR", default_value = ".cache")]
    pub(super) cache: PathBuf,
    /// Writes the tables into DIR/panel-quality.md, the figures to DIR/evaluate.json and the charts beside them
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(super) write: Option<PathBuf>,
    /// Writes each set or file as a label stream for `aegis replay` into DIR: votes, features and labels, no text
    #[arg(long, value_name = "DIR")]
    pub(super) streams: Option<PathBuf>,
    /// The configuration with the experts, instead of --models
    #[arg(long, value_name = "FILE", requires = "files", help_heading = FILES)]
    pub config: Option<PathBuf>,
    /// The format of the files [default: by their names]
    #[arg(long, value_parser = ["json", "csv", "tsv", "parquet", "avro"], requires = "files", help_heading = FILES)]
    pub(super) format: Option<String>,
    /// The delimiter of CSV [default: a comma]
    #[arg(long, value_name = "CHAR", requires = "files", help_heading = FILES)]
    pub(super) delimiter: Option<char>,
    /// The layout of a published set, instead of fields
    #[arg(long, value_enum, requires = "files", help_heading = FILES)]
    pub(super) preset: Option<Preset>,
    /// Stop at the first row that cannot be used, instead of counting it
    #[arg(long, requires = "files", help_heading = FILES)]
    pub(super) strict: bool,
    /// The learner that combines the votes
    #[arg(long, value_name = "NAME", default_value = "default", requires = "files", help_heading = FILES)]
    pub(super) learner: String,
    /// Learn in an order drawn from this seed, instead of the order of the files
    #[arg(long, value_name = "SEED", requires = "files", help_heading = FILES)]
    pub(super) shuffle: Option<u64>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text, requires = "files", help_heading = FILES)]
    pub(super) output: Output,
    /// Writes a page with curves and tables
    #[arg(long, value_name = "FILE.html", requires = "files", help_heading = FILES)]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) fields: FieldArgs,
    /// Attacks on the unsafe texts: how much recall they cost
    #[arg(long, value_enum, value_delimiter = ',', requires = "files", help_heading = ATTACKS)]
    pub(super) attack: Vec<Attack>,
    /// The seed of the attacks
    #[arg(long, default_value_t = 1, requires = "attack", help_heading = ATTACKS)]
    pub(super) attack_seed: u64,
    /// The false positive rate at which recall is compared
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share, requires = "attack", help_heading = ATTACKS)]
    pub(super) attack_fpr: f64,
    /// The recall that an attack may cost the learner; above it the command exits with 65
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "attack", help_heading = ATTACKS)]
    pub(super) max_recall_loss: Option<f64>,
}

/// The flags that name fields.
#[derive(Debug, Clone, Args)]
pub(super) struct FieldArgs {
    /// The judged text [default: text]
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["preset", "turns"], requires = "files", help_heading = FIELDS)]
    text: Option<String>,
    /// The conversation: a list of turns, the last of which is judged
    #[arg(long, value_name = "FIELD", conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    turns: Option<String>,
    /// The user's turn before the judged text
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["preset", "turns"], requires = "files", help_heading = FIELDS)]
    context: Option<String>,
    /// The role of the judged text: a field, or user, assistant, system or tool for all rows [default: user]
    #[arg(long, value_name = "FIELD|ROLE", conflicts_with_all = ["preset", "turns"], requires = "files", help_heading = FIELDS)]
    role: Option<String>,
    /// The label: a verdict, a share of 1, or votes as a list or object; several fields are several votes [default: label]
    #[arg(long, value_name = "FIELD", value_delimiter = ',', conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    label: Vec<String>,
    /// Labels that mean unsafe, before the usual words
    #[arg(long, value_name = "WORD", value_delimiter = ',', conflicts_with = "preset", requires = "files", allow_hyphen_values = true, help_heading = FIELDS)]
    unsafe_words: Vec<String>,
    /// Labels that mean safe, before the usual words
    #[arg(long, value_name = "WORD", value_delimiter = ',', conflicts_with = "preset", requires = "files", allow_hyphen_values = true, help_heading = FIELDS)]
    safe_words: Vec<String>,
    /// The least number that means unsafe, for labels that are a severity
    #[arg(long, value_name = "NUMBER", conflicts_with = "preset", requires = "files", allow_hyphen_values = true, help_heading = FIELDS)]
    unsafe_from: Option<f64>,
    /// The value of Needs Caution, from 0 for safe to 1 for unsafe
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, requires = "files", help_heading = FIELDS)]
    needs_caution: f64,
    /// The category, or a list or object of categories
    #[arg(long, value_name = "FIELD", conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    category: Option<String>,
    /// Categories in one text are separated by commas
    #[arg(long, requires = "category", help_heading = FIELDS)]
    split_categories: bool,
    /// The language
    #[arg(long, value_name = "FIELD", conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    language: Option<String>,
    /// The kind of attack, or of any other group
    #[arg(long, value_name = "FIELD", conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    kind: Option<String>,
    /// The id [default: file and line]
    #[arg(long, value_name = "FIELD", conflicts_with = "preset", requires = "files", help_heading = FIELDS)]
    id: Option<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 1".to_owned())
}

fn lower(words: &[String]) -> Vec<String> {
    words.iter().map(|word| word.trim().to_lowercase()).collect()
}

impl EvaluateArgs {
    /// Returns the format of the files, if it is given.
    pub(super) fn format(&self) -> Option<Format> {
        Format::named(self.format.as_deref()?)
    }

    /// Returns the delimiter of CSV, if it is given.
    pub(super) fn delimiter(&self) -> Result<Option<u8>, EvaluateError> {
        let byte = |delimiter| u8::try_from(delimiter).ok().filter(u8::is_ascii);
        let Some(delimiter) = self.delimiter else { return Ok(None) };
        let why = || EvaluateError::Usage("--delimiter: one ASCII character, such as ';'".to_owned());
        byte(delimiter).map(Some).ok_or_else(why)
    }

    /// Returns the learner.
    pub(super) fn learner(&self) -> Result<LearnerSpec, EvaluateError> {
        let name: Name =
            self.learner.parse().map_err(|error| EvaluateError::Usage(format!("--learner: {error}")))?;
        let spec = LearnerSpec::new(name);
        spec.check().map_err(|error| EvaluateError::Usage(format!("--learner: {error}")))?;
        Ok(spec)
    }

    /// Returns the layout of the preset, or of the flags.
    pub(super) fn layout(&self) -> Layout {
        let fields = &self.fields;
        if let Some(preset) = self.preset {
            return preset.layout(fields.needs_caution);
        }
        let field = |name: &Option<String>| name.as_deref().map(Field::from);
        let constant = |word: &str| Role::ALL.into_iter().find(|role| role.word() == word);
        let role = match fields.role.as_deref() {
            None => RoleAt::Always(Role::User),
            Some(word) => constant(word).map_or_else(|| RoleAt::Field(word.into()), RoleAt::Always),
        };
        let text = match &fields.turns {
            Some(turns) => TextAt::Turns(turns.as_str().into()),
            None => TextAt::Text {
                field: fields.text.as_deref().unwrap_or("text").into(),
                role,
                context: field(&fields.context),
            },
        };
        let labels: Vec<Field> = fields.label.iter().map(|name| name.as_str().into()).collect();
        let names: presets::CategoryNames = &[];
        let split = fields.split_categories;
        let part = Part {
            suffix: "",
            text,
            label: LabelAt::Votes(if labels.is_empty() { vec!["label".into()] } else { labels }),
            categories: match field(&fields.category) {
                Some(field) => CategoriesAt::Field { field, split, names },
                None => CategoriesAt::Nowhere,
            },
            language: field(&fields.language),
            kind: field(&fields.kind).map_or(KindAt::Nowhere, KindAt::Field),
            redacted: None,
        };
        let meaning = Meaning {
            unsafe_words: lower(&fields.unsafe_words),
            safe_words: lower(&fields.safe_words),
            unsafe_from: fields.unsafe_from,
            caution: fields.needs_caution,
        };
        Layout { id: field(&fields.id), parts: vec![part], meaning }
    }
}
