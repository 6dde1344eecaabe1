//! The commands of a page. They stand in a block `sh`, one after the other, or behind `$ ` in a block without a
//! language, with what they print below them. `# exits with N` says that a command ends so.

use regex::Regex;

use crate::page::{Block, Page};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its line in the page.
    pub line: usize,
    /// The command, without comments.
    pub text: String,
    /// The expected exit code.
    pub exit: i32,
    /// The expected output, if the page shows it.
    pub shown: Option<Vec<String>>,
}

/// Programs by which a command is known where none is expected.
const PROGRAMS: &[&str] = &[
    "aegis",
    "make",
    "cargo",
    "docker",
    "python3",
    "kafka-",
    "curl",
    "kill",
    "mkdir",
    "cp",
    "cat",
    "export",
    "tests/",
    "sha256sum",
    "pip",
    "optimum-cli",
];

/// Returns `true` if a line looks like a command.
fn is_command(line: &str) -> bool {
    // `COMPOSE_PROFILES=gpu docker compose up`
    let variable = Regex::new("^[A-Z_]+=[^ ]* ").unwrap();
    let line = variable.replace(line, "");
    PROGRAMS.iter().any(|program| {
        line.strip_prefix(program).is_some_and(|rest| rest.starts_with(' ') || program.ends_with(['-', '/']))
    })
}

/// A page's commands in order; panics where one stands where no reader of this file would find it.
pub fn commands(page: &Page) -> Vec<Command> {
    let mut found = Vec::new();
    for block in &page.blocks {
        match block.language.as_str() {
            "sh" => found.extend(statements(block)),
            "" => found.extend(session(page, block)),
            _ => {}
        }
    }
    let stray = page.prose.iter().find(|(_, line)| line.starts_with("    ") && is_command(line.trim()));
    if let Some((number, line)) = stray {
        panic!("{}:{number}: write a command in a block `sh`: {line}", page.name);
    }
    found
}

/// The line without its comment, and how the comment says that the command ends.
fn uncommented(line: &str) -> (&str, Option<i32>) {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            None if letter == '#' && before == ' ' => {
                let (command, comment) = line.split_at(at);
                let exit = comment.split("exits with ").nth(1).map(|rest| {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    digits.parse().unwrap()
                });
                return (command.trim_end(), exit);
            }
            None => {}
        }
        before = letter;
    }
    (line.trim_end(), None)
}

/// The word that ends what a line is given, where it is given something.
fn here_document(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("<<")?;
    Some(
        rest.chars().filter(|letter| *letter != '\'').take_while(|letter| letter.is_alphanumeric()).collect(),
    )
}

/// Takes one command from its lines: it goes on behind `\`, `|` and `&&`, and to the end of a document.
fn take<'a>(first: usize, lines: &mut impl Iterator<Item = (usize, &'a str)>, command: &str) -> Command {
    let mut next = Some(command);
    let (mut text, mut exit) = (Vec::new(), 0);
    while let Some(line) = next.take() {
        let (bare, ends) = uncommented(line);
        exit = ends.unwrap_or(exit);
        text.push(bare.to_owned());
        if let Some(end) = here_document(bare) {
            for (_, inner) in lines.by_ref() {
                text.push(inner.to_owned());
                if inner == end {
                    break;
                }
            }
        }
        if [r"\", "|", "&&"].iter().any(|more| bare.ends_with(more)) {
            next = lines.next().map(|(_, line)| line);
        }
    }
    Command { line: first, text: text.join("\n"), exit, shown: None }
}

fn statements(block: &Block) -> Vec<Command> {
    let mut lines = (block.line..).zip(block.lines.iter().map(String::as_str));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        if !uncommented(line).0.is_empty() {
            found.push(take(number, &mut lines, line));
        }
    }
    found
}

fn session(page: &Page, block: &Block) -> Vec<Command> {
    let mut lines = (block.line..).zip(block.lines.iter().map(String::as_str)).peekable();
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        if let Some(command) = line.strip_prefix("$ ") {
            let mut command = take(number, &mut lines, command);
            let mut shown = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.starts_with("$ ")) {
                shown.push(line.to_owned());
            }
            command.shown = Some(shown);
            found.push(command);
        } else if is_command(line) {
            panic!("{}:{number}: write a command in a block `sh`, or behind `$ `: {line}", page.name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(language: &str, text: &str) -> Vec<Command> {
        let lines = text.lines().map(str::to_owned).collect();
        let block = Block { language: language.into(), line: 3, lines };
        commands(&Page { name: "page".into(), blocks: vec![block], prose: Vec::new() })
    }

    #[test]
    fn commands_are_told_from_comments_documents_and_what_they_print() {
        let found =
            of("sh", "# first\naegis check   # why\n\ncat > a <<'END'\nx # y\nEND\necho 'a # b' |\n  cat");
        let texts: Vec<_> = found.iter().map(|command| (command.line, command.text.as_str())).collect();
        let expected = [(4, "aegis check"), (6, "cat > a <<'END'\nx # y\nEND"), (9, "echo 'a # b' |\n  cat")];
        assert_eq!(texts, expected);
        let found = of("", "$ aegis check --set a  # exits with 78\naegis: no\n$ echo b \\\n  c\nb c\n…");
        assert_eq!((found[0].exit, found[0].text.as_str()), (78, "aegis check --set a"));
        assert_eq!(found[0].shown.as_deref(), Some(&["aegis: no".to_owned()][..]));
        assert_eq!((found[1].text.as_str(), found[1].line), ("echo b \\\n  c", 5));
        assert_eq!(found[1].shown.as_deref().unwrap(), ["b c", "…"]);
        assert!(of("toml", "make = 1").is_empty() && of("", " a ──► b").is_empty());
        assert!(is_command("A_B=c docker compose up") && !is_command("aegis.toml: ok"));
    }

    #[test]
    #[should_panic(expected = "page:3: write a command in a block `sh`")]
    fn a_command_that_nobody_would_run_is_told() {
        of("", "aegis check");
    }
}
