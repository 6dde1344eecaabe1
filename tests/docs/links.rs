//! Every link leads to a file and a heading that are there.

use std::path::{Component, Path, PathBuf};

use crate::page::{Page, names, root};

/// A path without `..`: links leave their folder.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Returns the reason why a link of a page is broken.
fn wrong(page: &Page, target: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(&page.name).parent().unwrap();
    let file = if file.is_empty() { PathBuf::from(&page.name) } else { plain(&folder.join(file)) };
    if !root().join(&file).exists() {
        return Some(format!("there is no {}", file.display()));
    }
    if anchor.is_empty() || file.extension().is_none_or(|ending| ending != "md") {
        return None;
    }
    let anchors = Page::read(file.to_str().unwrap()).anchors();
    (!anchors.iter().any(|found| found == anchor))
        .then(|| format!("{} has no heading {anchor}; there are {}", file.display(), anchors.join(", ")))
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = Vec::new();
    let mut count = 0;
    for name in names() {
        let page = Page::read(&name);
        for (line, target) in page.links() {
            count += 1;
            found.extend(wrong(&page, &target).map(|why| format!("{name}:{line}: {target}: {why}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(count > 100, "only {count} links are found: are they still written as [text](target)?");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = Page::read("docs/README.md");
    let linked: Vec<_> = contents.links().into_iter().map(|(_, target)| target).collect();
    for name in names().iter().filter_map(|name| name.strip_prefix("docs/")) {
        if name != "README.md" && !name.contains('/') {
            assert!(linked.iter().any(|target| target == name), "docs/README.md does not lead to {name}");
        }
    }
}

#[test]
fn a_dead_link_is_told() {
    let page = Page { name: "docs/page.md".into(), blocks: Vec::new(), prose: Vec::new() };
    for good in ["README.md", "../README.md#what-you-get", "operating.md#load", "decisions", "https://a.b/c"]
    {
        assert_eq!(wrong(&page, good), None, "{good}");
    }
    for bad in ["gone.md", "README.md#gone", "../docs/gone.svg", "#gone"] {
        let page = Page { name: "docs/operating.md".into(), blocks: Vec::new(), prose: Vec::new() };
        assert!(wrong(&page, bad).is_some(), "{bad}");
    }
}
