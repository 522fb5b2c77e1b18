//! README and docs are true: commands and settings are taken by the real parsers, links lead somewhere, and pages that are
//! made from the code are not stale.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod check;
mod configuration;
mod install;
mod page;
mod programs;
mod reference;
mod settings;
mod shell;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use check::{Pages, problems};
use page::Page;
use programs::root;

/// README and all pages of docs.
fn pages() -> Pages {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| Path::new("docs").join(name));
    let paths = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).chain(["README.md".into()]);
    paths.map(|path| (path.clone(), read(path))).collect()
}

fn read(path: PathBuf) -> Page {
    let text = fs::read_to_string(root().join(&path)).unwrap();
    Page::parse(path, &text)
}

#[test]
fn every_block_command_and_link_of_the_documents_is_right() {
    let pages = pages();
    let found: Vec<_> = pages.values().flat_map(|page| problems(&root(), &pages, page)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let pages = pages();
    let linked: BTreeSet<_> =
        pages[Path::new("README.md")].links.iter().map(|link| link.text.clone()).collect();
    let missing: Vec<_> = pages
        .keys()
        .filter(|path| path.starts_with("docs") && !linked.contains(path.to_str().unwrap()))
        .collect();
    assert!(missing.is_empty(), "README.md has no link to {missing:?}");
}

/// What takes longer to read than five minutes belongs to a page of docs.
#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(
        lines <= 140,
        "README.md has {lines} lines; move everything that a new user does not need to a page of docs"
    );
}

/// Sections and invariants that comments name: `DESIGN §5`, `DESIGN I1–I3`.
#[test]
fn every_reference_to_the_design_leads_to_its_page() {
    let design = fs::read_to_string(root().join("docs/design.md")).unwrap();
    let mut wrong = Vec::new();
    for (path, text) in programs::sources(&root()) {
        let references =
            text.split("DESIGN ").skip(1).filter_map(|rest| rest.split([')', '.', ':', '\n', ';']).next());
        for word in
            references.flat_map(|reference| reference.split(|it: char| !it.is_alphanumeric() && it != '§'))
        {
            let heading = match (word.strip_prefix('§'), word.strip_prefix('I')) {
                (Some(number), _) => format!("\n## {number}. "),
                (_, Some(number)) if number.parse::<u8>().is_ok() => format!("\n- **I{number} "),
                _ => continue,
            };
            if !design.contains(&heading) {
                wrong.push(format!("{}: DESIGN {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/design.md lacks what comments name: {}", wrong.join("\n"));
}

#[test]
fn the_command_line_page_is_that_of_the_programs() {
    let (path, expected) = (root().join("docs/cli.md"), reference::page());
    if std::env::var_os("SEXTANT_BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    let different = page.lines().zip(expected.lines()).enumerate().find(|(_, (old, new))| old != new);
    assert!(
        page == expected,
        "docs/cli.md is stale, first at {different:?}; write it anew: SEXTANT_BLESS=1 cargo test -p sextant-tests --test \
         documents the_command_line_page"
    );
}
