//! What can be typed. Names, prefixes, addresses and times are domain types from here on.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use sextant_proto::{NodeName, PoolName, Prefix};

use super::{duration, link::Endpoint};

/// Asks and tells Sextant's controllers
#[derive(Debug, Parser)]
#[command(
    name = "sextant",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unavailable, 6 timed out\n\n\
                  Example:\n  sextant --controller http://[::1]:7300 status"
)]
pub struct CommandLine {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Global {
    /// Controllers, tried in turn
    #[arg(
        long = "controller",
        global = true,
        env = "SEXTANT_CONTROLLER",
        value_name = "URL[,URL…]",
        value_delimiter = ',',
        default_value = "http://[::1]:7300"
    )]
    pub(super) controllers: Vec<Endpoint>,
    /// Speak plain text past loopback
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
    pub(super) insecure: bool,
    /// How the answer is written
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Output,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs: the same keys from version to version
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prefixes that host prefixes are cut out of
    #[command(subcommand, after_help = "Example:\n  sextant pool add main 2001:db8:1::/48 --host-len 64")]
    Pool(Pool),
    /// Hosts and their prefixes
    #[command(subcommand, after_help = "Example:\n  sextant node list")]
    Node(Node),
    /// Routes of the hosts' kernels
    #[command(subcommand, after_help = "Example:\n  sextant route list --node host1")]
    Route(Route),
    /// The routers that agents speak BGP with
    #[command(after_help = "Example:\n  sextant bgp --node host1")]
    Bgp {
        /// Only those of this node
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
    },
    /// Keep a prefix of a pool out, or for one node
    #[command(
        after_help = "Example:\n  sextant reserve 2001:db8:1:6::/64 --node host6 --reason 'moves in on Monday'"
    )]
    Reserve {
        /// What to reserve
        prefix: Prefix,
        /// The node that gets just this prefix; nobody does unless given
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
        /// Why, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// End a reservation
    #[command(after_help = "Example:\n  sextant unreserve 2001:db8:1:5::/64")]
    Unreserve {
        /// What was reserved
        prefix: Prefix,
    },
    /// List all reservations
    #[command(after_help = "Example:\n  sextant reservations")]
    Reservations,
    /// Everything at a glance, and what needs a person
    #[command(after_help = "Example:\n  sextant status")]
    Status,
    /// What a node would change in its kernel now, and why: a dry run
    #[command(after_help = "Example:\n  sextant plan host1")]
    Plan {
        /// The node
        node: NodeName,
    },
    /// Check the way between two nodes, there and back; name what breaks it
    #[command(after_help = "Example:\n  sextant trace host1 host2")]
    Trace {
        /// One node
        from: NodeName,
        /// The other node
        to: NodeName,
    },
    /// What was done, by whom and when, the newest last
    ///
    /// The order is the store's. An event whose time is before that of the one above it is marked: a controller's clock was
    /// wrong.
    #[command(after_help = "Example:\n  sextant events --follow --node host1")]
    Events {
        /// Go on with new ones as they come; with -o json, one object a line
        #[arg(short, long)]
        follow: bool,
        /// Only of this node
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
        /// Only so many of those that are; all unless given
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        last: Option<u32>,
    },
    /// What an address is, whose, and who routes to it
    #[command(after_help = "Example:\n  sextant explain 2001:db8:1:5::2")]
    Explain {
        /// An IPv6 address, without a length
        address: Ipv6Addr,
    },
    /// Write all that lasts into one file
    #[command(after_help = "Example:\n  sextant backup /var/backups/sextant.backup")]
    Backup {
        /// The file; it is written whole or not at all
        file: PathBuf,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
    /// Put a backup into the store; agents keep what they hold
    #[command(after_help = "Example:\n  sextant restore /var/backups/sextant.backup")]
    Restore {
        /// What `sextant backup` wrote
        #[arg(required_unless_present = "undo")]
        file: Option<PathBuf>,
        /// Take back a restore that was cut off
        #[arg(long, conflicts_with = "file")]
        undo: bool,
    },
    /// Whom a store that stands in for another one still waits for
    #[command(after_help = "Example:\n  sextant recover --finish")]
    Recover {
        /// Wait no longer: what is not in the store now has ended
        #[arg(long)]
        finish: bool,
    },
    /// Freeze every agent's kernel changes
    #[command(after_help = "Example:\n  sextant pause")]
    Pause,
    /// End a pause, and let agents withdraw what they hold back
    #[command(after_help = "Example:\n  sextant resume")]
    Resume,
    /// Wait until every live agent has applied a revision
    #[command(after_help = "Example:\n  sextant wait --timeout 30s")]
    Wait {
        /// The revision; the last one that agents see unless given
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        revision: Option<u64>,
        /// How long, e.g. 500ms, 30s, 2m; for ever unless given
        #[arg(long, value_name = "D", value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Write a shell's completions to standard output
    #[command(
        after_help = "Example:\n  sextant completions bash > /usr/share/bash-completion/completions/sextant"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Pool {
    /// Add a pool
    #[command(
        after_help = "Example:\n  sextant pool add main 2001:db8:1::/48 --host-len 64 --container-len 80"
    )]
    Add {
        /// What to call it; agents that name no pool take the only one, or the one called "default"
        name: PoolName,
        /// All of it, at most 64 bits long, e.g. 2001:db8:1::/48
        prefix: Prefix,
        /// How many bits long each host's prefix is
        #[arg(long, value_name = "N")]
        host_len: u32,
        /// How many bits long the part on the container bridge is; as --host-len unless given
        #[arg(long, value_name = "N")]
        container_len: Option<u32>,
    },
    /// List all pools
    #[command(after_help = "Example:\n  sextant pool list -o json")]
    List,
    /// Show one pool
    #[command(after_help = "Example:\n  sextant pool show main")]
    Show {
        /// The pool
        name: PoolName,
    },
    /// Close a pool to new claims; who holds a prefix of it keeps it
    #[command(after_help = "Example:\n  sextant pool drain main")]
    Drain {
        /// The pool
        name: PoolName,
    },
    /// Open a pool again
    #[command(after_help = "Example:\n  sextant pool undrain main")]
    Undrain {
        /// The pool
        name: PoolName,
    },
    /// Give a pool a shorter prefix that contains its own
    #[command(after_help = "Example:\n  sextant pool grow main 2001:db8::/44")]
    Grow {
        /// The pool
        name: PoolName,
        /// All of it from now on
        prefix: Prefix,
    },
    /// Remove a pool that no node holds a prefix of
    #[command(after_help = "Example:\n  sextant pool remove main")]
    Remove {
        /// The pool
        name: PoolName,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List all nodes
    #[command(after_help = "Example:\n  sextant node list")]
    List,
    /// Show all that is known of one node
    #[command(after_help = "Example:\n  sextant node show host1")]
    Show {
        /// The node
        name: NodeName,
    },
    /// Have all peers withdraw a node's routes, then its host; its prefix stays its own
    #[command(after_help = "Example:\n  sextant node drain host1 --timeout 1m")]
    Drain {
        /// The node
        name: NodeName,
        /// How long its peers have to withdraw, e.g. 30s
        #[arg(long, value_name = "D", value_parser = duration::parse, default_value = "30s")]
        timeout: Duration,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Bring a drained node back
    #[command(after_help = "Example:\n  sextant node undrain host1")]
    Undrain {
        /// The node
        name: NodeName,
        /// How long to wait until it is ready, e.g. 30s
        #[arg(long, value_name = "D", value_parser = duration::parse, default_value = "30s")]
        timeout: Duration,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// End the claims of nodes whose hosts are gone
    ///
    /// Within ten minutes a fifth of the announced nodes may be forgotten, or ten if that is more; nodes that were drained
    /// before, or are back, do not count. More than that must be named in one command and confirmed.
    #[command(after_help = "Example:\n  sextant node forget --confirm 3 host1 host2 host3")]
    Forget {
        /// The nodes
        #[arg(required = true, value_name = "NAME")]
        names: Vec<NodeName>,
        /// Even if they are too many at once; their number
        #[arg(long, value_name = "N")]
        confirm: Option<u32>,
        /// Also if its agent is up, or its host still forwards: what uses its prefix there loses all connections
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Route {
    /// List the routes that nodes should have, and whether their kernels have them
    #[command(after_help = "Example:\n  sextant route list --node host1")]
    List {
        /// Only those of this node's kernel
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
    },
}
