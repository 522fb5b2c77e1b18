//! `sextant-controller pki`: makes the files of the cluster's own authority, and prints which.

use std::time::SystemTime;

use anyhow::Context;
use sextant_authority::{Directory, Written};
use sextant_identity::{Identity, Role, Subject};
use sextant_proto::{NodeName, PoolName};
use sextant_streams::Printer;

use crate::settings::{CommandLine, PkiCommand};

/// Carries the command out.
///
/// # Errors
/// If a file cannot be made.
pub fn run(command_line: &CommandLine, command: &PkiCommand) -> anyhow::Result<()> {
    let mut out = Printer::stdout();
    match command {
        PkiCommand::Init { dir, name } => {
            let place = command_line.pki(dir.clone())?;
            let name = name.clone().unwrap_or_else(host_name);
            init(&Directory::new(place.directory), &controller(place.cluster, &name)?, &mut out)?;
        }
        PkiCommand::Controller { name, dir } => {
            let place = command_line.pki(dir.clone())?;
            further(&Directory::new(place.directory), &controller(place.cluster, name)?, &mut out)?;
        }
        PkiCommand::Admin { name, role, days, dir } => {
            let directory = Directory::new(command_line.pki(dir.clone())?.directory);
            anyhow::ensure!((1..=825).contains(days), "--days {days}: give it 1 to 825");
            let (name, role) = (parsed("NAME", name)?, role.parse::<Role>()?);
            let written = directory.person(&name, role, *days, SystemTime::now())?;
            print(&mut out, &written);
            let [key, certificate] = [0, 1].map(|it: usize| written[it].path.display());
            out.line(format_args!(
                "for the shell of {name}, who copies root.pem too: export SEXTANT_TLS_CA={} SEXTANT_TLS_CERT={certificate} \
                 SEXTANT_TLS_KEY={key}",
                directory.root().display()
            ));
        }
    }
    out.finish().context("standard output")
}

fn init(directory: &Directory, controller: &Identity, out: &mut Printer) -> anyhow::Result<()> {
    print(out, &directory.init(controller, SystemTime::now())?);
    let (path, root_key) = (directory.path().display(), directory.root_key());
    out.line(format_args!("in controller.toml: pki = \"{path}\""));
    if root_key.exists() {
        out.line(format_args!(
            "move {} to a place that is offline: whoever has it controls the cluster, and only `pki controller` needs it",
            root_key.display()
        ));
    }
    Ok(())
}

fn further(directory: &Directory, controller: &Identity, out: &mut Printer) -> anyhow::Result<()> {
    let (of, written) = directory.controller(controller, SystemTime::now())?;
    print(out, &written);
    out.line(format_args!(
        "move {} to the machine of {}, and name it there in controller.toml as `pki`; let no copy of issuing.key stay here",
        of.path().display(),
        controller.subject
    ));
    Ok(())
}

fn print(out: &mut Printer, written: &[Written]) {
    for Written { path, is_new } in written {
        out.line(format_args!("{} {}", if *is_new { "made" } else { "kept" }, path.display()));
    }
}

fn controller(cluster: PoolName, name: &str) -> anyhow::Result<Identity> {
    Ok(Identity { cluster, subject: Subject::Controller(parsed("--name", name)?) })
}

fn parsed(what: &str, name: &str) -> anyhow::Result<NodeName> {
    name.parse().with_context(|| format!("{what} {}", sextant_proto::quoted(name)))
}

fn host_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().to_lowercase()
}
