//! `docs/cli.md`, made from what the programs' own parsers know.

use clap::{Arg, Command};
use clap_markdown::{MarkdownOptions, help_markdown_command_custom};

use crate::programs;

const HEAD: &str = "# Command line

This page is generated from the programs' `--help`. After a change of a help text, generate it again:

```sh
SEXTANT_BLESS=1 cargo test -p sextant-tests --test documents the_command_line_page
```

An environment variable, in parentheses, can replace a flag; if both are set, the flag has precedence. The daemons'
flags are also keys of their [settings files](configuration.md).

";

/// The page.
pub fn page() -> String {
    let options = MarkdownOptions::new().show_footer(false);
    let programs = programs::ours().into_values().map(|program| {
        let text = help_markdown_command_custom(&prepared(program), &options);
        // Its title and introduction are those of a page of its own.
        let overview = text.find("* [").map_or(text.as_str(), |at| &text[at..]).to_owned();
        trimmed(&overview)
    });
    HEAD.to_owned() + &programs.collect::<Vec<_>>().join("\n")
}

/// With examples as blocks, and each flag's variable.
fn prepared(command: Command) -> Command {
    let examples = command.get_after_help().map(|text| with_block(&text.to_string()));
    let command = match examples {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_args(with_variable).mut_subcommands(prepared)
}

fn with_block(text: &str) -> String {
    match text.split_once("Example:\n") {
        Some((before, example)) => {
            let lines: Vec<_> = example.lines().map(str::trim).collect();
            format!("{before}```sh\n{}\n```", lines.join("\n"))
        }
        None => text.to_owned(),
    }
}

fn with_variable(arg: Arg) -> Arg {
    let (Some(variable), Some(help)) = (arg.get_env(), arg.get_help()) else { return arg };
    let help = format!("{help} (`{}`)", variable.to_string_lossy());
    arg.help(help)
}

/// Without white space at the ends of lines, and with one empty line at most.
fn trimmed(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if !line.is_empty() || kept.last().is_some_and(|last| !last.is_empty()) {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}
