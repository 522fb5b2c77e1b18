//! Commands and flags. Names, prefixes, addresses and times become domain types here.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use sextant_identity::TokenId;
use sextant_proto::{NodeName, PoolName, Prefix, parse_duration};

use crate::{export::Format, global::Global, names};

/// Queries and controls a Sextant cluster, through its controllers
#[derive(Debug, Parser)]
#[command(
    name = "sextant",
    version = sextant_version::VERSION,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unavailable, 6 timed out\n\n\
                  Example:\n  sextant --controller http://[::1]:7300 status"
)]
pub struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pools: the prefixes from which host prefixes are assigned
    #[command(subcommand, after_help = "Example:\n  sextant pool add main 2001:db8:8000::/40 --host-len 64")]
    Pool(Pool),
    /// Nodes: the hosts and their prefixes
    #[command(subcommand, after_help = "Example:\n  sextant node list")]
    Node(Node),
    /// Routes in the hosts' kernels
    #[command(subcommand, after_help = "Example:\n  sextant route list --node h1")]
    Route(Route),
    /// List the BGP neighbours of the nodes
    #[command(after_help = "Example:\n  sextant bgp --node h1")]
    Bgp {
        /// Only the neighbours of this node
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(names::nodes))]
        node: Option<NodeName>,
    },
    /// Reserve a prefix of a pool for one node, or for none
    #[command(
        after_help = "Example:\n  sextant reserve 2001:db8:8000:7::/64 --node h7 --reason 'moves in on Monday'"
    )]
    Reserve {
        /// The prefix to reserve
        prefix: Prefix,
        /// The node that gets this prefix; default: none
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(names::nodes))]
        node: Option<NodeName>,
        /// The reason, as text
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// End a reservation
    #[command(after_help = "Example:\n  sextant unreserve 2001:db8:8000:7::/64")]
    Unreserve {
        /// The reserved prefix
        prefix: Prefix,
    },
    /// List all reservations
    #[command(after_help = "Example:\n  sextant reservations")]
    Reservations,
    /// Show the cluster, and all problems that need an operator
    #[command(after_help = "Example:\n  sextant status")]
    Status,
    /// Show the changes that a node's agent would make in its kernel now (dry run)
    #[command(after_help = "Example:\n  sextant plan h1")]
    Plan {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        node: NodeName,
    },
    /// Test the path between two nodes or containers, both ways; report fault and fix
    ///
    /// A container is named as its engine names it, with its node (`h1/web`) if several nodes have one of the name. Its host sends
    /// the probes from the address of its bridge.
    #[command(after_help = "Example:\n  sextant trace h1 h2/web")]
    Trace {
        /// A node, a container, or NODE/CONTAINER
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        from: String,
        /// Another one, on another node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        to: String,
    },
    /// List the changes with their time and origin, the newest last
    ///
    /// Changes are listed in the order of the store. A change with an earlier time than the previous one is marked: a
    /// controller's clock was wrong.
    #[command(after_help = "Example:\n  sextant events --follow --node h1")]
    Events {
        /// Continue with new changes as they happen; with -o json, one object per line
        #[arg(short, long)]
        follow: bool,
        /// Only the changes of this node
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(names::nodes))]
        node: Option<NodeName>,
        /// Only the last N existing changes; default: all
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        last: Option<u32>,
    },
    /// Join tokens: each lets a host get the certificate of its node
    #[command(subcommand, after_help = "Example:\n  sextant token create --node h7")]
    Token(Token),
    /// Revoke people and controllers; `sextant node revoke` does it for nodes
    #[command(subcommand, after_help = "Example:\n  sextant revoke admin bob")]
    Revoke(Revoke),
    /// Show your name and role, as the controller sees them
    #[command(after_help = "Example:\n  sextant whoami")]
    Whoami,
    /// Show the node, container, pool and reservation of an address, and who routes to it
    #[command(after_help = "Example:\n  sextant explain 2001:db8:8000:1::5")]
    Explain {
        /// An IPv6 address, without a length
        address: Ipv6Addr,
    },
    /// Write pools, reservations, nodes and claims to a file
    #[command(after_help = "Example:\n  sextant backup /var/backups/sextant.backup")]
    Backup {
        /// The file; it is written completely or not at all
        file: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Restore a backup; agents keep the prefixes that they hold
    #[command(after_help = "Example:\n  sextant restore /var/backups/sextant.backup")]
    Restore {
        /// The file that `sextant backup` wrote
        #[arg(required_unless_present = "undo")]
        file: Option<PathBuf>,
        /// Undo a restore that was interrupted
        #[arg(long, conflicts_with = "file")]
        undo: bool,
    },
    /// List nodes and claims that have not registered since an earlier store was replaced
    #[command(after_help = "Example:\n  sextant recover --finish")]
    Recover {
        /// Close the recovery window; claims that exist only in the lost store end
        #[arg(long)]
        finish: bool,
        /// The number of listed claims that end with the window; required if there are any
        #[arg(long, value_name = "N", requires = "finish")]
        confirm: Option<u32>,
        /// Let claims that no receipt proves count until the window closes; their nodes may then claim what they like
        #[arg(long, conflicts_with = "finish")]
        accept_unsigned: bool,
    },
    /// Stop all agents from changing their kernels
    #[command(after_help = "Example:\n  sextant pause")]
    Pause,
    /// End a pause, and let agents delete the routes that the brake has kept
    #[command(after_help = "Example:\n  sextant resume")]
    Resume,
    /// Wait until every live agent, and at least one, has applied a revision
    #[command(after_help = "Example:\n  sextant wait --timeout 30s")]
    Wait {
        /// The revision; default: the last one published to agents
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        revision: Option<u64>,
        /// Maximum time to wait, e.g. 500ms, 30s, 2m; default: no limit
        #[arg(long, value_name = "D", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Write completions for a shell to standard output
    #[command(
        after_help = "Example:\n  sextant completions bash > /usr/share/bash-completion/completions/sextant"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages and the completions below a share directory
    #[command(after_help = "Example:\n  sextant manual /usr/local/share")]
    Manual {
        /// The directory, with man, bash-completion, zsh and fish in it
        share: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Add a pool
    #[command(
        after_help = "Example:\n  sextant pool add main 2001:db8:8000::/40 --host-len 64 --container-len 80"
    )]
    Add {
        /// Name of the pool; agents without a configured pool use the only one, or the one named "default"
        name: PoolName,
        /// Prefix of the pool, at most 126 bits long, e.g. 2001:db8:8000::/40
        prefix: Prefix,
        /// Length of each host prefix
        #[arg(long, value_name = "N")]
        host_len: u32,
        /// Length of the container prefixes; default: --host-len
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
        #[arg(add = ArgValueCandidates::new(names::pools))]
        name: PoolName,
    },
    /// Close a pool to new claims; nodes keep the prefixes that they hold
    #[command(after_help = "Example:\n  sextant pool drain main")]
    Drain {
        /// The pool
        #[arg(add = ArgValueCandidates::new(names::pools))]
        name: PoolName,
    },
    /// Open a pool again
    #[command(after_help = "Example:\n  sextant pool undrain main")]
    Undrain {
        /// The pool
        #[arg(add = ArgValueCandidates::new(names::pools))]
        name: PoolName,
    },
    /// Grow a pool to a shorter prefix that contains the present one
    #[command(after_help = "Example:\n  sextant pool grow main 2001:db8:8000::/36")]
    Grow {
        /// The pool
        #[arg(add = ArgValueCandidates::new(names::pools))]
        name: PoolName,
        /// The new prefix
        prefix: Prefix,
    },
    /// Remove a pool without claims
    #[command(after_help = "Example:\n  sextant pool remove main")]
    Remove {
        /// The pool
        #[arg(add = ArgValueCandidates::new(names::pools))]
        name: PoolName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List all nodes
    #[command(after_help = "Example:\n  sextant node list")]
    List,
    /// Show all details of one node
    #[command(after_help = "Example:\n  sextant node show h1 --containers")]
    Show {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        name: NodeName,
        /// Ask its agent for the running containers, too; with -o json, print only these and the addresses that its host answers neighbour solicitations for
        #[arg(long)]
        containers: bool,
    },
    /// Withdraw all routes to a node, then the node's own routes; the node keeps its prefix
    #[command(after_help = "Example:\n  sextant node drain h1 --timeout 1m")]
    Drain {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        name: NodeName,
        /// Maximum time to wait for its peers, e.g. 30s
        #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "30s")]
        timeout: Duration,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Return a drained node to service
    #[command(after_help = "Example:\n  sextant node undrain h1")]
    Undrain {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        name: NodeName,
        /// Maximum time to wait until it is ready, e.g. 30s
        #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "30s")]
        timeout: Duration,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Give a node another prefix of the same pool: drain it, move it, and return it to service
    ///
    /// Its other prefixes stay, and are drained for as long. Containers keep their old addresses until they are created again. If a
    /// step fails, the node returns to service with the prefix that it has then. A node without an agent whose host is gone is moved
    /// at once; it uses the prefix once its agent is back. A drained node is in service afterwards.
    #[command(after_help = "Example:\n  sextant node reassign h2 --prefix 2001:db8:8000:7::/64")]
    Reassign {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        name: NodeName,
        /// The next prefix: free, or reserved for the node; default: the reserved one, else a free one
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<Prefix>,
        /// The pool; required for a node with prefixes of several pools, unless --prefix tells
        #[arg(long, value_name = "POOL", add = ArgValueCandidates::new(names::pools))]
        pool: Option<PoolName>,
        /// Maximum time to wait for its peers, and then until it is ready, e.g. 30s
        #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "30s")]
        timeout: Duration,
    },
    /// Refuse all streams and calls of a node on every controller, or permit them again
    ///
    /// Its streams end at once, and no certificate of it is accepted. It is known by its name, its node id and the serial number of its
    /// certificate. Its claim stays until `sextant node forget` ends it, which a revoked node cannot prevent.
    #[command(after_help = "Example:\n  sextant node revoke h2")]
    Revoke {
        /// The node
        #[arg(add = ArgValueCandidates::new(names::nodes))]
        name: NodeName,
        /// Permit the node again
        #[arg(long)]
        undo: bool,
    },
    /// End the claims of nodes whose hosts are gone
    ///
    /// At most a fifth of the announced prefixes, or ten if that is more, can end within ten minutes; a node counts once for each of
    /// its prefixes. Nodes that were drained before, or have returned, do not count. To forget more, name all of them in one command
    /// with --confirm.
    #[command(after_help = "Example:\n  sextant node forget --confirm 3 h1 h2 h3")]
    Forget {
        /// The nodes
        #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(names::nodes))]
        names: Vec<NodeName>,
        /// Only the claim in this pool ends; the node keeps its others
        #[arg(long, value_name = "POOL", add = ArgValueCandidates::new(names::pools))]
        pool: Option<PoolName>,
        /// The number of named nodes; required to exceed the limit
        #[arg(long, value_name = "N")]
        confirm: Option<u32>,
        /// Forget also a node with a connected agent or a forwarding host; its containers lose all connections
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a join token, and print it: one line for the standard input of `sextant-agent join`
    ///
    /// The line has a secret, which is shown only now. The host that uses the token first gets a certificate for its name; others are
    /// refused.
    #[command(after_help = "Example:\n  sextant token create --node h7 | ssh h7 sudo sextant-agent join")]
    Create {
        /// The node, or a pattern with one * for several
        #[arg(long, value_name = "NAME")]
        node: String,
        /// Number of hosts that may use it, with a pattern (1 to 1000)
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
        /// Time after which it ends, e.g. 15m (1s to 168h)
        #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "15m")]
        ttl: Duration,
        /// The pool that the hosts claim from, unless their settings name others
        #[arg(long, value_name = "POOL", add = ArgValueCandidates::new(names::pools))]
        pool: Option<PoolName>,
        /// Length of their host prefixes, unless their settings set it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=126))]
        host_len: Option<u32>,
    },
    /// List all join tokens
    #[command(after_help = "Example:\n  sextant token list")]
    List,
    /// End a join token; nodes that joined with it stay
    #[command(after_help = "Example:\n  sextant token revoke 3f7c0de1a2b45968")]
    Revoke {
        /// The token, as listed
        #[arg(value_name = "ID")]
        id: TokenId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// Refuse all streams and calls of a person from now on
    #[command(after_help = "Example:\n  sextant revoke admin bob")]
    Admin(RevokedName),
    /// Refuse a controller from now on, and the certificates and receipts that it has issued
    ///
    /// A node that it has certified keeps its connection, if it has joined with a token: its key is known. A person needs another
    /// certificate.
    #[command(after_help = "Example:\n  sextant revoke controller c2")]
    Controller(RevokedName),
    /// List the revoked nodes, people and controllers
    #[command(after_help = "Example:\n  sextant revoke list")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct RevokedName {
    /// The name in the certificate
    pub(crate) name: NodeName,
    /// Only the certificate with this serial number, and what it has issued
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: Option<String>,
    /// Permit it again
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Route {
    /// List the routes that nodes should have, and whether their kernels have them
    #[command(after_help = "Example:\n  sextant route list --node h1")]
    List {
        /// Only the routes of this node
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(names::nodes))]
        node: Option<NodeName>,
    },
    /// Write the routes that a router without an agent needs, as its own configuration
    #[command(after_help = "Example:\n  sextant route export --format frr --since routes.before")]
    Export {
        /// The router's configuration
        #[arg(long, value_name = "FORMAT", value_enum)]
        format: Format,
        /// Only what has changed since this whole export in the same format; for BIRD all routes, and the changes as comments
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// A network of the router: only next hops in this prefix
        #[arg(long, value_name = "PREFIX")]
        via: Option<Prefix>,
        /// Also a route for each pool that discards packets to prefixes that no host holds
        #[arg(long)]
        discard_pools: bool,
    },
}
