//! `sextant-controller pki`: makes the files of the cluster's own authority, and prints which.

use std::time::SystemTime;

use anyhow::Context;
use sextant_authority::{Directory, DirectoryError, Written};
use sextant_identity::{Identity, Role, Subject};
use sextant_proto::{NodeName, PoolName};
use sextant_streams::Printer;

use crate::settings::{CommandLine, PERSON_DAYS, PkiCommand};

/// Carries the command out.
///
/// # Errors
/// If a file cannot be made.
pub fn run(command_line: &CommandLine, command: &PkiCommand) -> anyhow::Result<()> {
    let mut out = Printer::stdout();
    match command {
        PkiCommand::Init { dir, name, admin } => {
            let place = command_line.pki(dir.clone())?;
            let name = name.clone().unwrap_or_else(host_name);
            let admin = admin.as_deref().map(|admin| parsed("--admin", admin)).transpose()?;
            init(
                &Directory::new(place.directory),
                &controller(place.cluster, &name)?,
                admin.as_ref(),
                &mut out,
            )?;
        }
        PkiCommand::Controller { name, dir } => {
            let place = command_line.pki(dir.clone())?;
            further(&Directory::new(place.directory), &controller(place.cluster, name)?, &mut out)?;
        }
        PkiCommand::Admin { name, role, days, dir } => {
            let directory = Directory::new(command_line.pki(dir.clone())?.directory);
            anyhow::ensure!((1..=825).contains(days), "--days {days}: give it 1 to 825");
            let (name, role) = (parsed("NAME", name)?, role.parse::<Role>()?);
            print(&mut out, &directory.person(&name, role, *days, SystemTime::now())?);
            for_the_shell(&directory, &name, &mut out);
        }
    }
    out.finish().context("standard output")
}

fn init(
    directory: &Directory,
    controller: &Identity,
    admin: Option<&NodeName>,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let now = SystemTime::now();
    print(out, &directory.init(controller, now)?);
    if let Some(admin) = admin {
        match directory.person(admin, Role::Admin, PERSON_DAYS, now) {
            Ok(written) => print(out, &written),
            Err(DirectoryError::Exists(path)) => print(out, &[Written { path, is_new: false }]),
            Err(error) => return Err(error.into()),
        }
        for_the_shell(directory, admin, out);
    }
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

fn for_the_shell(directory: &Directory, person: &NodeName, out: &mut Printer) {
    let certificate = directory.person_certificate(person);
    out.line(format_args!(
        "for the shell of {person}: export SEXTANT_TLS_CERT={}; or copy it with {person}.key and root.pem to another machine",
        certificate.display()
    ));
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
