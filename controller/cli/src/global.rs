//! The flags of every command: which controllers, how they are reached, and the format of the output.

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};
use sextant_identity::{ControllerUrl, Credentials, TlsKeys};

use crate::{failure::Failure, link::Link};

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The controllers' URLs, tried in turn
    #[arg(
        long = "controller",
        global = true,
        env = "SEXTANT_CONTROLLER",
        value_name = "URL[,URL…]",
        value_delimiter = ',',
        default_value = "http://[::1]:7300"
    )]
    pub(crate) controllers: Vec<ControllerUrl>,
    /// Allow unencrypted connections to controllers that are not on loopback
    #[arg(
        long,
        global = true,
        env = "SEXTANT_INSECURE",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) tls: TlsKeys,
    /// Format of the output
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Format of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text for people
    #[default]
    Table,
    /// JSON for programs; keys are stable between versions
    Json,
}

impl Global {
    /// The controllers, without a connection yet.
    ///
    /// # Errors
    /// If a file for TLS is missing or invalid, or a URL does not fit.
    pub(crate) fn link(self) -> Result<Link, Failure> {
        Link::new(self.controllers, credentials(self.tls)?, self.insecure)
    }
}

/// The credentials for TLS; none for plain text.
fn credentials(keys: TlsKeys) -> Result<Option<Credentials>, Failure> {
    let paths = keys.paths().map_err(|error| Failure::Usage(error.to_string()))?;
    let open = |paths| Credentials::open(paths, None).map_err(|error| Failure::Usage(error.to_string()));
    paths.map(open).transpose()
}
