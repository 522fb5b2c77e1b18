//! The command line: the flags, which are keys too, and the commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{DockerMode, keys::Keys};

/// Claims an IPv6 prefix for this host, and keeps its routes to the other hosts.
#[derive(Debug, Parser)]
#[command(
    name = "sextant-agent",
    version = sextant_version::VERSION,
    args_override_self = true,
    after_help = "Example:\n  sextant-agent --controller 'http://[2001:db8::c:1]:7300' --uplink eth0 --bridge docker0 --insecure"
)]
pub struct CommandLine {
    /// Config file (TOML)
    #[arg(long, env = "SEXTANT_CONFIG", value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) keys: Keys,
    /// The command; without one, the agent runs
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The agent's other commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Undo all changes of the agent to this host: routes, addresses, the bridge, sysctls
    #[command(
        after_help = "Example:\n  systemctl stop sextant-agent && sextant-agent cleanup --dry-run && sextant-agent cleanup"
    )]
    Cleanup {
        /// Only show the changes
        #[arg(long)]
        dry_run: bool,
    },
    /// Set this host up once for the prefix that it holds, before a container engine starts: bridge, address, forwarding, firewall
    #[command(after_help = "Example:\n  sextant-agent prepare")]
    Prepare,
    /// Check this host, and show each problem with its fix; exit code 1 if there is a problem
    #[command(after_help = "Example:\n  sextant-agent --uplink eth0 doctor")]
    Doctor {
        /// Apply safe fixes: raise the kernel's limits, remove addresses and routes that Docker left
        #[arg(long)]
        fix: bool,
    },
    /// Get the certificate of this node for a join token, which is read from standard input
    ///
    /// Key and certificate are kept in the state directory, and are used by the agent if no --tls-cert is set. The controller is
    /// trusted if its chain ends in the root that the token names.
    #[command(
        after_help = "Example:\n  sextant-agent --controller 'https://[2001:db8::c:1]:7300' join <token.txt"
    )]
    Join {
        /// Read the token from this file
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Write the manual pages and the completions below a share directory
    #[command(after_help = "Example:\n  sextant-agent manual /usr/local/share")]
    Manual {
        /// The directory, with man, bash-completion, zsh and fish in it
        share: PathBuf,
    },
    /// Set this host's Docker up
    Docker {
        /// The command
        #[command(subcommand)]
        command: DockerCommand,
    },
}

/// The commands of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum DockerCommand {
    /// Give this host's Docker the host's prefix: edit its configuration and the agent's, and show what is left to do
    #[command(
        after_help = "Example:\n  sextant-agent docker setup --mode daemon --dry-run && sextant-agent docker setup --mode daemon --restart"
    )]
    Setup {
        /// How containers get addresses [default: [docker] mode of the config file]
        #[arg(long, value_enum, value_name = "MODE")]
        mode: Option<DockerMode>,
        /// Only show the changes
        #[arg(long)]
        dry_run: bool,
        /// Take the changes of earlier setups back
        #[arg(long, conflicts_with_all = ["mode", "restart"])]
        undo: bool,
        /// Restart Docker and the agent if something has changed
        #[arg(long)]
        restart: bool,
    },
}
