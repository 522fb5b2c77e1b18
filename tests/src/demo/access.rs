//! How the demo's programs reach each other: over TLS, with an authority of the demo's own, or in plain text.

use std::{fs, path::PathBuf};

use super::{Options, terminal::Terminal};
use crate::{
    CliOutput, Lab, StoreKind,
    lab::{
        authority::{OwnAuthority, tls_url},
        daemons::controller_url,
    },
};

/// Where the authority is, in the commands that are shown.
const PKI: &str = "/etc/sextant/pki";
/// The file of the join token, in the commands that are shown and in the lab's directory.
const TOKEN: &str = "join-token";

/// How the demo's programs reach each other.
#[derive(Debug)]
pub(super) enum Access {
    /// In plain text.
    Plain,
    /// Over TLS, with certificates of this authority.
    Tls(OwnAuthority),
}

impl Access {
    /// Makes the authority, unless plain text is asked for.
    pub(super) fn new(lab: &Lab, terminal: &Terminal, options: &Options) -> anyhow::Result<Self> {
        if options.insecure {
            return Ok(Self::Plain);
        }
        terminal.step(
            "The cluster's own authority",
            "All connections are TLS 1.3, and each program shows a certificate. Ann is the first admin.",
        );
        terminal.command("", "sextant-controller pki init --admin ann");
        let authority = OwnAuthority::make(lab)?;
        if options.store == StoreKind::Etcd {
            terminal.command("", "sextant-controller pki controller c2");
            authority.run(&["controller", "c2"])?;
        }
        Ok(Self::Tls(authority))
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The URL of the controller with this number.
    pub(super) fn url(&self, number: u16) -> String {
        if self.is_tls() { tls_url(number) } else { controller_url(number) }
    }

    /// The arguments of a controller, as they are shown.
    pub(super) fn shown_for_controllers(&self) -> String {
        if self.is_tls() { format!("--pki {PKI}") } else { "--insecure".to_owned() }
    }

    /// The arguments of an agent, as they are shown.
    pub(super) fn shown_for_agents(&self) -> String {
        if self.is_tls() { format!("--join-token-file {TOKEN}") } else { "--insecure".to_owned() }
    }

    /// The variables of `sextant`, as they are shown.
    pub(super) fn shown_for_people(&self) -> String {
        if self.is_tls() {
            format!("SEXTANT_TLS_CERT={PKI}/ann.pem")
        } else {
            "SEXTANT_INSECURE=true".to_owned()
        }
    }

    /// The arguments of `sextant` where the demo was kept.
    pub(super) fn person_args(&self) -> String {
        match self {
            Self::Plain => "--insecure".to_owned(),
            Self::Tls(authority) => format!("--tls-cert {}", authority.admin().display()),
        }
    }

    pub(super) fn controller_args(&self, number: u16) -> Vec<String> {
        match self {
            Self::Plain => Vec::new(),
            Self::Tls(authority) => {
                vec!["--pki".to_owned(), authority.dir_of(number).display().to_string()]
            }
        }
    }

    pub(super) fn agent_args(&self, lab: &Lab) -> Vec<String> {
        match self {
            Self::Plain => Vec::new(),
            Self::Tls(_) => vec!["--join-token-file".to_owned(), token_file(lab).display().to_string()],
        }
    }

    /// Makes a join token for so many hosts, and shows the command.
    pub(super) fn make_token(&self, lab: &Lab, terminal: &Terminal, hosts: u16) -> anyhow::Result<()> {
        let Self::Tls(_) = self else { return Ok(()) };
        let count = hosts.to_string();
        terminal.command("", &format!("sextant token create --node 'h*' --count {count} >{TOKEN}"));
        let token = self.cli(lab, &["token", "create", "--node", "h*", "--count", &count])?.succeeded()?;
        Ok(fs::write(token_file(lab), token.stdout)?)
    }

    /// Runs `sextant` against controller 1.
    pub(super) fn cli(&self, lab: &Lab, args: &[&str]) -> anyhow::Result<CliOutput> {
        match self {
            Self::Plain => lab.cli(args),
            Self::Tls(authority) => authority.cli(lab, 1, args),
        }
    }
}

fn token_file(lab: &Lab) -> PathBuf {
    lab.dir().join(TOKEN)
}
