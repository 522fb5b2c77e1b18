//! A further controller: its request, the signature where the root is, and the answer. Standard output has the request or the answer
//! alone, so that it can be piped; what people read is on standard error.

use std::{
    fs,
    io::{IsTerminal, Read},
    path::Path,
    time::SystemTime,
};

use anyhow::{Context, ensure};
use sextant_authority::{Directory, Request, Written};
use sextant_identity::Identity;
use sextant_proto::PoolName;
use sextant_streams::{Printer, write_stderr};

use super::passphrase::{ask, terminal};

/// The most octets of a request or an answer.
const MOST_OCTETS: u64 = 64 << 10;

/// Makes the key and the request of a controller.
pub(super) fn request(directory: &Directory, controller: &Identity, out: &mut Printer) -> anyhow::Result<()> {
    let (text, written) = directory.request(controller)?;
    note(&written);
    let fingerprint = Request::from_pem(&text)?.fingerprint();
    write_stderr(&format!(
        "{}: the fingerprint of its key is {fingerprint}\nwhere the root's key is: sextant-controller pki sign --fingerprint \
         {fingerprint} {}",
        controller.subject,
        directory.request_path().display()
    ));
    out.line(text.trim_end());
    Ok(())
}

/// The request in this file.
pub(super) fn read(file: &Path) -> anyhow::Result<Request> {
    Request::from_pem(&text_of(file)?).with_context(|| format!("{}", file.display()))
}

/// Shows whose request it is, and makes sure that it is the expected one: whoever it certifies can make any certificate.
pub(super) fn confirm(request: &Request, expected: Option<&str>) -> anyhow::Result<()> {
    let (controller, fingerprint) = (request.controller()?, request.fingerprint());
    let shown = format!("request of {controller}, whose key has the fingerprint {fingerprint}");
    write_stderr(&shown);
    if let Some(expected) = expected {
        ensure!(
            expected.eq_ignore_ascii_case(&fingerprint.to_string()),
            "--fingerprint {expected}: the key of the request has another one: {fingerprint}; nothing was signed"
        );
        return Ok(());
    }
    let is_asked = std::io::stderr().is_terminal();
    let terminal = is_asked.then(terminal).transpose().ok().flatten().with_context(|| {
        format!(
            "nothing was signed: compare the fingerprint with the one that `pki request` shows on the controller's machine, and give \
             --fingerprint {fingerprint}"
        )
    })?;
    let answer = ask(&terminal, "is this the fingerprint that the controller's machine shows? [y/N] ")?;
    ensure!(matches!(answer.trim(), "y" | "yes"), "nothing was signed");
    Ok(())
}

/// Certifies the controller of the request.
pub(super) fn sign(
    directory: &Directory,
    request: &Request,
    cluster: &PoolName,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let (answer, written) = directory.sign(request, cluster, SystemTime::now())?;
    write_stderr(&format!(
        "made {}; on the controller's machine: sextant-controller pki install FILE",
        written.path.display()
    ));
    out.line(answer.trim_end());
    Ok(())
}

/// Installs the answer.
pub(super) fn install(directory: &Directory, file: &Path, out: &mut Printer) -> anyhow::Result<()> {
    let installed = directory.install(&text_of(file)?, SystemTime::now());
    let (controller, written) = installed.with_context(|| format!("{}", file.display()))?;
    super::print(out, &written);
    out.line(format_args!(
        "{} is certified; in controller.toml: pki = \"{}\"",
        controller.subject,
        directory.path().display()
    ));
    Ok(())
}

fn note(written: &[Written]) {
    for Written { path, is_new } in written {
        write_stderr(&format!("{} {}", if *is_new { "made" } else { "kept" }, path.display()));
    }
}

/// The text of a file, or of standard input.
fn text_of(file: &Path) -> anyhow::Result<String> {
    let from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(file).with_context(|| format!("{}", file.display()))?)
    };
    let mut text = String::new();
    from.take(MOST_OCTETS).read_to_string(&mut text).with_context(|| format!("{}", file.display()))?;
    Ok(text)
}
