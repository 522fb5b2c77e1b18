//! `sextant-controller pki`: makes the files of the cluster's own authority, and prints which.

mod further;
mod passphrase;

use std::{path::Path, time::SystemTime};

use anyhow::Context;
use sextant_authority::{Directory, DirectoryError, Written};
use sextant_identity::{Identity, Role, Subject};
use sextant_proto::{NodeName, PoolName};
use sextant_streams::Printer;

use crate::settings::{CommandLine, PERSON_DAYS, PkiCommand, RootKeyArgs};

/// Carries the command out.
///
/// # Errors
/// If a file cannot be made.
pub fn run(command_line: &CommandLine, command: &PkiCommand) -> anyhow::Result<()> {
    let mut out = Printer::stdout();
    match command {
        PkiCommand::Init { dir, name, backup, passphrase_file, admin } => {
            let place = command_line.pki(dir.clone())?;
            let name = name.clone().unwrap_or_else(host_name);
            let (directory, first) = (Directory::new(place.directory), controller(place.cluster, &name)?);
            let admin = admin.as_deref().map(|admin| parsed("--admin", admin)).transpose()?;
            // Asked for first: nothing is made without a usable passphrase.
            let passphrase =
                backup.is_some().then(|| passphrase::of_new(passphrase_file.as_deref())).transpose()?;
            init(&directory, &first, admin.as_ref(), &mut out)?;
            if let (Some(file), Some(passphrase)) = (backup, passphrase) {
                print(&mut out, &[directory.back_up(file, &passphrase)?]);
            }
            offline(&directory, backup.as_deref(), &mut out);
        }
        PkiCommand::Controller { name, root_key, dir } => {
            let place = command_line.pki(dir.clone())?;
            let directory = root(Directory::new(place.directory), root_key)?;
            beside(&directory, &controller(place.cluster, name)?, &mut out)?;
        }
        PkiCommand::Request { name, dir } => {
            let place = command_line.pki(dir.clone())?;
            further::request(&Directory::new(place.directory), &controller(place.cluster, name)?, &mut out)?;
        }
        PkiCommand::Sign { file, fingerprint, root_key, dir } => {
            let place = command_line.pki(dir.clone())?;
            let request = further::read(file)?;
            further::confirm(&request, fingerprint.as_deref())?;
            let directory = root(Directory::new(place.directory), root_key)?;
            further::sign(&directory, &request, &place.cluster, &mut out)?;
        }
        PkiCommand::Install { file, dir } => {
            further::install(&Directory::new(command_line.pki(dir.clone())?.directory), file, &mut out)?;
        }
        PkiCommand::Admin { name, role, days, dir } => {
            let directory = Directory::new(command_line.pki(dir.clone())?.directory);
            anyhow::ensure!((1..=825).contains(days), "--days {days}: give it 1 to 825");
            person(&directory, &parsed("NAME", name)?, role.parse()?, *days, &mut out)?;
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
    out.line(format_args!("in controller.toml: pki = \"{}\"", directory.path().display()));
    Ok(())
}

/// The advice for the key of the root.
fn offline(directory: &Directory, backup: Option<&Path>, out: &mut Printer) {
    let root_key = directory.root_key();
    match backup {
        _ if !root_key.exists() => {}
        Some(backup) => out.line(format_args!(
            "move {} to a place that is offline, and remove {}: whoever has it controls the cluster; `pki sign --root-key FILE` reads \
             the encrypted one",
            backup.display(),
            root_key.display()
        )),
        None => out.line(format_args!(
            "move {} to a place that is offline: whoever has it controls the cluster, and only `pki sign` and `pki controller` need \
             it; `pki init --backup FILE` makes an encrypted copy",
            root_key.display()
        )),
    }
}

/// The directory with the key of the root that the flags name.
fn root(directory: Directory, args: &RootKeyArgs) -> anyhow::Result<Directory> {
    let path = args.root_key.clone().unwrap_or_else(|| directory.root_key());
    Ok(directory.with_root_key(passphrase::root_key(path, args.passphrase_file.as_deref())?))
}

fn beside(directory: &Directory, controller: &Identity, out: &mut Printer) -> anyhow::Result<()> {
    let (of, written) = directory.controller(controller, SystemTime::now())?;
    print(out, &written);
    out.line(format_args!(
        "move {} to the machine of {}, and name it there in controller.toml as `pki`; let no copy of issuing.key stay here",
        of.path().display(),
        controller.subject
    ));
    Ok(())
}

fn person(
    directory: &Directory,
    name: &NodeName,
    role: Role,
    days: u32,
    out: &mut Printer,
) -> anyhow::Result<()> {
    print(out, &directory.person(name, role, days, SystemTime::now())?);
    for_the_shell(directory, name, out);
    Ok(())
}

fn for_the_shell(directory: &Directory, person: &NodeName, out: &mut Printer) {
    let certificate = directory.person_certificate(person);
    out.line(format_args!(
        "for the shell of {person}: export SEXTANT_TLS_CERT={}; or copy it with {person}.key and root.pem to another machine",
        certificate.display()
    ));
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
