//! `aegis score FILE`: writes a decision or a dead letter for each event of a file, without Kafka.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};

use super::{ConfigArgs, Failure, run};
use crate::codec::{self, EventFields, MAX_PREDICTOR, Pointer};
use crate::config::Config;
use crate::core::predictor::Published;
use crate::dead_letter::Reason;
use crate::ops::Exit;
use crate::ops::stdout::{Stdout, errln};
use crate::rows::{BadRow, Format, Item, Rows, RowsError, is_same_file};
use crate::score::{FileOutcome, FileScorer, PanelHandle, ScoreError};

/// The number of rows that are read before their outcomes are written, as a multiple of the events in flight.
const CHUNK: usize = 4;
/// The size at which a chunk ends, in bytes of rows.
const CHUNK_BYTES: usize = 16 << 20;
/// The maximum size of a file of predictors, in bytes.
const MAX_WEIGHTS: u64 = 16 * MAX_PREDICTOR as u64;
/// The number of dead letters that are described if no file takes them.
const DESCRIBED: u64 = 5;

#[derive(Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Events as topics accept them, in JSON lines, CSV, Parquet or Avro; .gz and .zst are decompressed; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The format of the file [default: by its name]
    #[arg(long, value_parser = ["json", "csv", "tsv", "parquet", "avro"])]
    format: Option<String>,
    /// The delimiter of CSV [default: a comma]
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// The field with the text, by name or JSON pointer, instead of the configured fields
    #[arg(long, value_name = "FIELD", conflicts_with = "turns")]
    text: Option<String>,
    /// The field with the list of turns, instead of the configured fields
    #[arg(long, value_name = "FIELD")]
    turns: Option<String>,
    /// The field with the id; with --text or --turns the default is file and line
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// A file of predictors, of `aegis replay --predictor` or `aegis weights export`; without it nothing is learned yet
    #[arg(long, value_name = "FILE")]
    weights: Vec<PathBuf>,
    /// The file of decisions, one JSON object a line [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file of dead letters, one JSON object a line; without it, dead letters make the command exit with 65
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// Score one event at a time: slower, and equal files give equal bytes
    #[arg(long)]
    reproducible: bool,
}

/// The writers of outcomes, and their numbers.
struct Outputs {
    name: String,
    decisions: Box<dyn Write>,
    letters: Option<BufWriter<File>>,
    decided: u64,
    dead: u64,
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path)
        .with_context(|| format!("{} cannot be written", path.display()))
        .map_err(|error| Failure { exit: Exit::Unavailable, error })
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result
        .context("the outcomes cannot be written")
        .map_err(|error| Failure { exit: Exit::Unavailable, error })
}

impl Outputs {
    fn open(args: &ScoreArgs) -> Result<Self, Failure> {
        let decisions: Box<dyn Write> = match &args.out {
            Some(path) => Box::new(BufWriter::new(create(path)?)),
            None => Box::new(Stdout),
        };
        let letters = args.dead_letters.as_deref().map(create).transpose()?.map(BufWriter::new);
        Ok(Self { name: args.file.display().to_string(), decisions, letters, decided: 0, dead: 0 })
    }

    fn decision(&mut self, mut json: Vec<u8>) -> Result<(), Failure> {
        self.decided += 1;
        json.push(b'\n');
        written(self.decisions.write_all(&json))
    }

    /// Writes a dead letter with the row as it is. Without a file, the first ones are described.
    fn letter(&mut self, line: u64, reason: &Reason, value: Option<&[u8]>) -> Result<(), Failure> {
        self.dead += 1;
        let Some(letters) = &mut self.letters else {
            if self.dead <= DESCRIBED {
                errln!("{}:{line}: {}: {}", self.name, reason.name, reason.message);
            }
            return Ok(());
        };
        let mut letter = json!({ "file": self.name, "line": line, "stage": "score", "reason": reason.name,
            "message": reason.message });
        if let (Some(value), Value::Object(letter)) = (value, &mut letter) {
            match std::str::from_utf8(value) {
                Ok(text) => letter.insert("value".into(), text.into()),
                Err(_) => letter.insert("value_base64".into(), STANDARD.encode(value).into()),
            };
        }
        written(writeln!(letters, "{letter}"))
    }

    fn finish(mut self) -> Result<Exit, Failure> {
        written(self.decisions.flush())?;
        let kept = self.letters.is_some();
        if let Some(mut letters) = self.letters {
            written(letters.flush())?;
        }
        errln!("{}: {} decisions, {} dead letters", self.name, self.decided, self.dead);
        if self.dead > 0 && !kept {
            let error = anyhow!(
                "rows without a decision: {}; write them with --dead-letters FILE, or correct them",
                self.dead
            );
            return Err(Failure { exit: Exit::Data, error });
        }
        Ok(Exit::Success)
    }
}

/// Returns the JSON pointer of a field that is given by name or by pointer.
fn pointer(flag: &str, field: &str) -> Result<Pointer, Failure> {
    let text = if field.starts_with('/') {
        field.to_owned()
    } else {
        format!("/{}", field.replace('~', "~0").replace('/', "~1"))
    };
    Pointer::try_from(text).map_err(|why| Failure { exit: Exit::Usage, error: anyhow!("{flag}: {why}") })
}

/// Replaces the configured fields of events by those of the flags.
fn with_fields(args: &ScoreArgs, config: &mut Config) -> Result<(), Failure> {
    let fields = &mut config.event_fields;
    if let Some(text) = &args.text {
        *fields = EventFields { text: pointer("--text", text)?, ..EventFields::default() };
    }
    if let Some(turns) = &args.turns {
        fields.turns = pointer("--turns", turns)?;
        fields.text = Pointer::default();
    }
    if let Some(id) = &args.id {
        if !fields.is_set() {
            let error = anyhow!("--id needs --text or --turns, or the section event_fields");
            return Err(Failure { exit: Exit::Usage, error });
        }
        fields.id = pointer("--id", id)?;
    }
    Ok(())
}

/// Reads predictors from a file: one of a topic's records, or several in lines of JSON.
fn predictors(path: &Path) -> Result<Vec<Published>, Failure> {
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_WEIGHTS + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let named = || path.display().to_string();
    let bytes = open().with_context(named).map_err(|error| Failure { exit: Exit::Unavailable, error })?;
    let wrong = |why: String| Failure { exit: Exit::Data, error: anyhow!("{}: {why}", path.display()) };
    if bytes.len() as u64 > MAX_WEIGHTS {
        return Err(wrong(format!("more than {MAX_WEIGHTS} bytes: this is no file of predictors")));
    }
    let read = |line: &[u8]| {
        codec::decode_published(line).map_err(|error| wrong(format!("not a predictor: {error}")))
    };
    if !bytes.starts_with(b"{") {
        return Ok(vec![read(&bytes)?]);
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let all: Vec<Published> = lines.map(read).collect::<Result<_, _>>()?;
    Ok(all)
}

fn rows_error(error: RowsError) -> Failure {
    let exit = match error {
        RowsError::Io { .. } => Exit::Unavailable,
        RowsError::Damaged { .. } => Exit::Data,
        RowsError::UnknownFormat { .. } => Exit::Usage,
    };
    Failure::new(exit, error)
}

fn score_error(error: ScoreError) -> Failure {
    let exit = match error {
        ScoreError::Predictor(_) | ScoreError::Panel(_) => Exit::Config,
        _ => Exit::Internal,
    };
    Failure::new(exit, error)
}

pub fn score(args: &ScoreArgs) -> Result<Exit, Failure> {
    let mut loaded = args.config.load()?;
    with_fields(args, &mut loaded.config)?;
    let delimiter = args.delimiter.map(u8::try_from).transpose();
    let delimiter = delimiter
        .map_err(|_| Failure { exit: Exit::Usage, error: anyhow!("--delimiter: one ASCII character") })?;
    let mut published = Vec::new();
    for path in &args.weights {
        published.extend(predictors(path)?);
    }
    let policies = Arc::new(loaded.policies);
    if let Some(unknown) = published.iter().find(|one| policies.get(&one.policy).is_none()) {
        let error = anyhow!("--weights has policy {}, which the policies file does not have", unknown.policy);
        return Err(Failure { exit: Exit::Config, error });
    }
    for output in args.out.iter().chain(&args.dead_letters) {
        if is_same_file(output, &args.file) {
            let error =
                anyhow!("{} is the input, which would be lost: write to another file", output.display());
            return Err(Failure { exit: Exit::Usage, error });
        }
    }
    let format = args.format.as_deref().and_then(Format::named);
    let mut rows = Rows::open(&args.file, format, delimiter).map_err(rows_error)?;
    let panel = run::complete_panel(&loaded.config)?;
    run::validate_panel(&panel, &loaded.config, &policies)?;
    let panel = PanelHandle::new(Arc::new(panel), &loaded.config.experts);
    let name = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy().into_owned();
    let window = if args.reproducible { 1 } else { loaded.config.score.window };
    let mut scorer =
        FileScorer::open(&loaded.config, &policies, panel, published, &name, window).map_err(score_error)?;
    let mut outputs = Outputs::open(args)?;
    let result = score_all(&mut scorer, &mut rows, CHUNK * window.max(16), &mut outputs);
    let finished = outputs.finish();
    result.and(finished)
}

/// Scores all rows, a chunk at a time, and writes their outcomes in the order of the rows.
fn score_all(
    scorer: &mut FileScorer,
    rows: &mut Rows,
    chunk: usize,
    outputs: &mut Outputs,
) -> Result<(), Failure> {
    loop {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut end = Ok(false);
        while items.len() < chunk && bytes < CHUNK_BYTES {
            match rows.next_row() {
                Ok(Some(item)) => {
                    if let Item::Row(row) = &item {
                        bytes += row.json.len();
                    }
                    items.push(item);
                }
                Ok(None) => {
                    end = Ok(true);
                    break;
                }
                // The rows before it have outcomes.
                Err(error) => {
                    end = Err(rows_error(error));
                    break;
                }
            }
        }
        let rows = items.iter().filter_map(|item| match item {
            Item::Row(row) => Some((row.number, row.json.clone())),
            Item::Bad(_) => None,
        });
        let mut outcomes = scorer.score(rows.collect()).map_err(score_error)?.into_iter();
        for item in items {
            match item {
                Item::Bad(BadRow { number, name, message }) => {
                    outputs.letter(number, &Reason { name, message }, None)?;
                }
                Item::Row(row) => match outcomes.next() {
                    Some(FileOutcome::Decision(json)) => outputs.decision(json)?,
                    Some(FileOutcome::DeadLetter(reason)) => {
                        outputs.letter(row.number, &reason, Some(&row.json))?;
                    }
                    None => {
                        let error = anyhow!("line {} has no outcome", row.number);
                        return Err(Failure { exit: Exit::Internal, error });
                    }
                },
            }
        }
        if end? {
            return Ok(());
        }
    }
}
