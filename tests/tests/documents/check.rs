//! What is wrong with a page.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    page::{Code, Page},
    programs,
    settings::Daemon,
    shell,
};

/// All pages, by their path in the repository.
pub type Pages = BTreeMap<PathBuf, Page>;

/// All that is wrong with a page, one line each.
pub fn problems(root: &Path, pages: &Pages, page: &Page) -> Vec<String> {
    let blocks = page.blocks.iter().flat_map(|block| {
        wrong_block(root, block).into_iter().map(|wrong| (block.line, wrong)).collect::<Vec<_>>()
    });
    let spans =
        page.spans.iter().filter_map(|span| Some((span.line, programs::wrong_span(root, &span.text)?)));
    let links =
        page.links.iter().filter_map(|link| Some((link.line, wrong_link(root, pages, page, &link.text)?)));
    let mut found: Vec<_> = blocks.chain(spans).chain(links).collect();
    found.sort();
    found.into_iter().map(|(line, wrong)| format!("{}:{line}: {wrong}", page.path.display())).collect()
}

fn wrong_block(root: &Path, block: &Code) -> Vec<String> {
    match block.kind.as_str() {
        "sh" => wrong_script(root, &block.text),
        "toml" => match Daemon::of(&block.text) {
            Some(daemon) => daemon.wrong(&block.text).into_iter().collect(),
            None => vec!["the first line of a toml block names the file: # /etc/sextant/agent.toml".into()],
        },
        "json" => serde_json::from_str::<serde_json::Value>(&block.text)
            .err()
            .map(|error| error.to_string())
            .into_iter()
            .collect(),
        "ini" => block.text.lines().filter(|line| !is_unit_line(line)).map(wrong_unit_line).collect(),
        // Output and pictures.
        "text" => Vec::new(),
        kind => vec![format!("a block of unknown kind \"{kind}\"; there are: sh, toml, json, ini, text")],
    }
}

fn wrong_script(root: &Path, text: &str) -> Vec<String> {
    match shell::commands(text) {
        Err(error) => vec![error],
        Ok(commands) => commands
            .iter()
            .filter_map(|words| Some(format!("`{}`: {}", words.join(" "), programs::wrong(root, words)?)))
            .collect(),
    }
}

/// A section or a setting of a systemd unit.
fn is_unit_line(line: &str) -> bool {
    let is_section = line.starts_with('[') && line.ends_with(']');
    let is_setting = line.split_once('=').is_some_and(|(key, _)| {
        key.starts_with(char::is_uppercase) && key.chars().all(char::is_alphanumeric)
    });
    line.is_empty() || line.starts_with('#') || is_section || is_setting
}

fn wrong_unit_line(line: &str) -> String {
    format!("no section or setting of a systemd unit: {line}")
}

fn wrong_link(root: &Path, pages: &Pages, page: &Page, link: &str) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let here = page.path.parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { page.path.clone() } else { plain(&here.join(file)) };
    if !root.join(&path).exists() {
        return Some(format!("link {link}: {} does not exist", path.display()));
    }
    let known = |page: &Page| page.anchors.contains(anchor);
    let target = if path == page.path { Some(page) } else { pages.get(&path) };
    (!anchor.is_empty() && !target.is_some_and(known))
        .then(|| format!("link {link}: there is no such heading"))
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        if part.as_os_str() == ".." {
            plain.pop();
        } else {
            plain.push(part);
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a page with this text, at the top of the repository.
    fn of(text: &str) -> Vec<String> {
        problems(&programs::root(), &Pages::new(), &Page::parse("README.md", text))
    }

    fn block(kind: &str, text: &str) -> Vec<String> {
        of(&format!("# Title\n\n```{kind}\n{text}\n```\n"))
    }

    #[test]
    fn good_blocks_pass() {
        for (kind, text) in [
            (
                "sh",
                "sudo sextant-controller --listen '[2001:db8::c:1]:7300' --insecure\nsextant -o json status",
            ),
            (
                "sh",
                "sudo tests/bench join --store etcd\nsudo tests/run i11_packets_to_an_isolated_host\nsudo deploy/demo --hosts 5",
            ),
            ("sh", "cargo test -p sextant-tests --test demo an_unknown_demo"),
            ("toml", "# /etc/sextant/agent.toml\ncontroller = [\"http://[::1]:7300\"]"),
            (
                "toml",
                "# /etc/sextant/controller.toml\n[etcd]\nuser = \"x\"\npassword-file = \"/nonexistent\"",
            ),
            ("json", "{ \"ipv6\": true }"),
            ("ini", "[Service]\nAmbientCapabilities=CAP_NET_ADMIN"),
            ("text", "anything"),
        ] {
            assert_eq!(block(kind, text), [""; 0], "{kind}");
        }
    }

    #[test]
    fn broken_blocks_are_named_with_their_line() {
        for (kind, text, expected) in [
            (
                "sh",
                "sextant node drian h1",
                "`sextant node drian h1`: error: unrecognized subcommand 'drian'",
            ),
            (
                "sh",
                "sextant pool add main 2001:db8::/40 --host-len 64 --colour",
                "unexpected argument '--colour'",
            ),
            ("sh", "sextant pool add main 2001:db8::1/40 --host-len 64", "invalid value '2001:db8::1/40'"),
            ("sh", "sextant-agent --uplnk eth0", "unexpected argument '--uplnk'"),
            ("sh", "sudo sextant-controller --listen 7300", "invalid value '7300'"),
            ("sh", "sudo tests/bench joins", "there is no \"joins\"; there are: bgp, claims"),
            ("sh", "sudo tests/bench join --sessions 5", "join has no option --sessions"),
            ("sh", "sudo tests/run no_such_test_of_ours", "no test has"),
            ("sh", "sudo deploy/demo --host 5", "unexpected argument '--host'"),
            ("sh", "cargo test -p sextant-tests --test demos", "there is no test executable demos"),
            ("sh", "sextantd status", "\"sextantd\" is no program"),
            (
                "sh",
                "install deploy/systemd/agent.service /etc",
                "deploy/systemd/agent.service does not exist",
            ),
            ("sh", "sextant reserve 'x", "is not closed"),
            ("toml", "controller = []", "the first line of a toml block names the file"),
            ("toml", "# /etc/sextant/agent.toml\ncontroler = []", "unknown field `controler`"),
            ("toml", "# /etc/sextant/agent.toml\ninsecure = true", "no controller"),
            ("toml", "# /etc/sextant/controller.toml\nstore = \"sqlite:x\"", "sqlite:x"),
            ("json", "{ ipv6: true }", "key must be a string"),
            ("ini", "[Service]\nno setting", "no section or setting of a systemd unit: no setting"),
            ("", "sextant status", "a block of unknown kind \"\""),
            ("bash", "sextant status", "a block of unknown kind \"bash\""),
        ] {
            let found = block(kind, text);
            assert!(
                found.len() == 1 && found[0].starts_with("README.md:3: ") && found[0].contains(expected),
                "{kind} {text}: {found:?}"
            );
        }
    }

    #[test]
    fn broken_code_within_a_line_is_found() {
        for good in
            ["sextant node drain NAME", "sextant -o json status", "sextant-agent cleanup --dry-run", "`x`"]
        {
            assert_eq!(of(&format!("`{good}`\n")), [""; 0]);
        }
        for (text, expected) in [
            ("sextant node shown NAME", "node has no command shown"),
            ("sextant node drain NAME --quick", "drain has no option --quick"),
            ("sudo tests/bench joins", "there is no \"joins\""),
            ("agent/src/main.rs.old", "agent/src/main.rs.old does not exist"),
        ] {
            let found = of(&format!("Text `{text}`.\n"));
            assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
        }
    }

    #[test]
    fn broken_links_are_found() {
        let text =
            "# Title\n\n[a](#title) [b](LICENSE) [c](https://example.org)\n\n[d](#titel) [e](docs/none.md)\n";
        assert_eq!(
            of(text),
            [
                "README.md:5: link #titel: there is no such heading",
                "README.md:5: link docs/none.md: docs/none.md does not exist"
            ]
        );
    }
}
