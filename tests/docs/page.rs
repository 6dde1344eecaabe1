//! Pages: their blocks, the text around them, headings and links.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A fenced block.
pub struct Block {
    /// The text after the fence.
    pub language: String,
    /// Its first line's number in the page, from 1.
    pub line: usize,
    /// Its lines, without the fence's own indentation.
    pub lines: Vec<String>,
}

impl Block {
    /// All of it.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// A page of Markdown.
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    /// Fenced blocks.
    pub blocks: Vec<Block>,
    /// The other lines with their numbers.
    pub prose: Vec<(usize, String)>,
}

impl Page {
    /// Reads a page.
    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut blocks, mut prose) = (Vec::new(), Vec::new());
        let mut open: Option<(usize, Block)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let indent = line.len() - line.trim_start().len();
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    open = Some((indent, Block { language, line: number + 1, lines: Vec::new() }));
                }
                (Some(_), Some("")) => blocks.extend(open.take().map(|(_, block)| block)),
                (Some((indent, block)), _) => {
                    block.lines.push(line.get(*indent..).unwrap_or_default().to_owned());
                }
                (None, None) => prose.push((number, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{name}: a block has no end");
        Self { name: name.to_owned(), blocks, prose }
    }

    /// Paragraphs with the number of their first line: code in the text may go over a line's end.
    pub fn paragraphs(&self) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut last = 0;
        for (number, line) in self.prose.iter().filter(|(_, line)| !line.trim().is_empty()) {
            match found.last_mut().filter(|_| last + 1 == *number && !line.starts_with('|')) {
                Some((_, text)) => *text = format!("{text} {}", line.trim()),
                None => found.push((*number, line.trim().to_owned())),
            }
            last = *number;
        }
        found
    }

    /// Code in the text, with the number of its paragraph's first line.
    pub fn code(&self) -> Vec<(usize, String)> {
        let code = Regex::new("`([^`]+)`").unwrap();
        let of = |(number, text): (usize, String)| {
            code.captures_iter(&text).map(|found| (number, found[1].to_owned())).collect::<Vec<_>>()
        };
        self.paragraphs().into_iter().flat_map(of).collect()
    }

    /// Returns the targets of links and pictures, with the number of their paragraph's first line.
    pub fn links(&self) -> Vec<(usize, String)> {
        let code = Regex::new("`[^`]*`").unwrap();
        let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
        let of = |(number, text): (usize, String)| {
            let text = code.replace_all(&text, "code").into_owned();
            link.captures_iter(&text).map(|found| (number, found[1].to_owned())).collect::<Vec<_>>()
        };
        self.paragraphs().into_iter().flat_map(of).collect()
    }

    /// Returns the anchors that a link can name after `#`: headings as GitHub writes them.
    pub fn anchors(&self) -> Vec<String> {
        let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
        let mut found: Vec<String> = Vec::new();
        for (_, line) in &self.prose {
            let heading = line.trim_start_matches('#');
            if heading.len() == line.len() || !heading.starts_with(' ') {
                continue;
            }
            let heading = link.replace_all(heading.trim(), "$1").to_lowercase();
            let slug: String = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect();
            let again = found.iter().filter(|other| **other == slug).count();
            found.push(if again == 0 { slug } else { format!("{slug}-{again}") });
        }
        found
    }
}

/// The names of all pages: those in the repository's folder and those in `docs`.
pub fn names() -> Vec<String> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let name = |entry: fs::DirEntry| format!("{folder}{}", entry.file_name().to_str().unwrap());
        entries.map(move |entry| name(entry.unwrap())).collect::<Vec<_>>()
    };
    let mut names: Vec<_> = ["", "docs/", "docs/decisions/", "experts/"].map(in_folder).concat();
    names.retain(|name| Path::new(name).extension().is_some_and(|ending| ending == "md"));
    names.sort();
    names
}
