//! A Markdown page: its code, headings, links and tables, with their line numbers. Pure.

use std::{collections::BTreeSet, path::PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A page, taken apart.
#[derive(Debug, Default)]
pub struct Page {
    /// Relative to the repository.
    pub path: PathBuf,
    /// Fenced code blocks.
    pub blocks: Vec<Code>,
    /// Code within a line; its kind is empty.
    pub spans: Vec<Code>,
    /// What a link to a heading of this page may name.
    pub anchors: BTreeSet<String>,
    /// Where links lead to.
    pub links: Vec<Located>,
    /// Paragraphs, items, headings and cells, without their code.
    pub prose: Vec<Located>,
    /// Rows of tables.
    pub rows: Vec<Row>,
}

/// A piece of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Where it begins.
    pub line: usize,
    /// What the fence says, e.g. `toml`.
    pub kind: String,
    /// The anchor of the heading that it is under.
    pub section: String,
    /// The code.
    pub text: String,
}

/// A text and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Where it is.
    pub line: usize,
    /// The text.
    pub text: String,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it is.
    pub line: usize,
    /// The anchor of the heading that it is under.
    pub section: String,
    /// Its cells, without markup.
    pub cells: Vec<String>,
}

impl Page {
    /// Reads a page.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Self {
        let mut reader = Reader { page: Page { path: path.into(), ..Page::default() }, ..Reader::default() };
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = 1 + text[..range.start].matches('\n').count();
            reader.take(event, line);
        }
        reader.page
    }
}

#[derive(Default)]
struct Reader {
    page: Page,
    section: String,
    block: Option<Code>,
    heading: Option<String>,
    said: Option<Located>,
    row: Option<Row>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::Start(tag) => self.start(&tag, line),
            Event::End(tag) => self.end(tag),
            Event::Code(code) => {
                let (kind, section) = (String::new(), self.section.clone());
                self.page.spans.push(Code { line, kind, section, text: code.to_string() });
                self.say(" ", line);
                self.inner(&code);
            }
            Event::Text(text) => match &mut self.block {
                Some(block) => block.text.push_str(&text),
                None => {
                    self.say(&text, line);
                    self.inner(&text);
                }
            },
            Event::SoftBreak | Event::HardBreak => {
                self.say(" ", line);
                self.inner(" ");
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>, line: usize) {
        let section = self.section.clone();
        if matches!(tag, Tag::Paragraph | Tag::Item | Tag::TableCell | Tag::Heading { .. }) {
            self.page.prose.extend(self.said.take());
        }
        match tag {
            Tag::CodeBlock(kind) => {
                let kind = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => "indented".to_owned(),
                };
                self.block = Some(Code { line, kind, section, text: String::new() });
            }
            Tag::Heading { .. } => self.heading = Some(String::new()),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.page.links.push(Located { line, text: dest_url.to_string() });
            }
            Tag::TableRow => self.row = Some(Row { line, section, cells: Vec::new() }),
            Tag::TableCell => {
                if let Some(row) = &mut self.row {
                    row.cells.push(String::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        if matches!(tag, TagEnd::Paragraph | TagEnd::Item | TagEnd::TableCell | TagEnd::Heading(_)) {
            self.page.prose.extend(self.said.take());
        }
        match tag {
            TagEnd::CodeBlock => self.page.blocks.extend(self.block.take()),
            TagEnd::Heading(_) => {
                let title = self.heading.take().unwrap_or_default();
                self.section = self.free_anchor(&anchor(&title));
                self.page.anchors.insert(self.section.clone());
            }
            TagEnd::TableRow => self.page.rows.extend(self.row.take()),
            _ => {}
        }
    }

    /// Text of a paragraph, item, heading or cell.
    fn say(&mut self, text: &str, line: usize) {
        self.said.get_or_insert_with(|| Located { line, text: String::new() }).text.push_str(text);
    }

    /// Text or code of a heading or cell.
    fn inner(&mut self, text: &str) {
        if let Some(heading) = &mut self.heading {
            heading.push_str(text);
        } else if let Some(cell) = self.row.as_mut().and_then(|row| row.cells.last_mut()) {
            cell.push_str(text);
        }
    }

    /// The second heading of a name gets `-1`, and so on.
    fn free_anchor(&self, anchor: &str) -> String {
        let taken = &self.page.anchors;
        let more = (1..).map(|n| format!("{anchor}-{n}"));
        std::iter::once(anchor.to_owned()).chain(more).find(|it| !taken.contains(it)).unwrap_or_default()
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let text = "# One `two`\n\nText\nwith `code` and [a link](docs/x.md#y).\n\n```sh\nsextant status\n```\n\n\
                    ## One two\n\n| key | flag |\n|---|---|\n| `a` | `--a` |\n";
        let page = Page::parse("README.md", text);
        let block =
            Code { line: 6, kind: "sh".into(), section: "one-two".into(), text: "sextant status\n".into() };
        assert_eq!(page.blocks, [block]);
        assert_eq!(page.links, [Located { line: 4, text: "docs/x.md#y".into() }]);
        assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["one-two", "one-two-1"]);
        assert_eq!(page.spans.iter().map(|it| it.text.as_str()).collect::<Vec<_>>()[..2], ["two", "code"]);
        let said: Vec<_> = page.prose.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(said[..2], ["One  ", "Text with   and a link."]);
        let row = Row { line: 14, section: "one-two-1".into(), cells: vec!["a".into(), "--a".into()] };
        assert_eq!(page.rows, [row]);
    }
}
