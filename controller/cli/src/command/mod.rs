//! The commands: each calls a controller and shows the answer.

mod backup;
mod drain;
mod events;
mod explain;
mod export;
mod forget;
mod named;
mod plan;
mod reassign;
mod reservations;
mod revoke;
mod token;
mod trace;
mod wait;
mod whoami;

use serde_json::Value;
use sextant_proto::{BgpNeighbour, Containers, NodeName, Pool, PoolName, Prefix, Revision, ndp::NdpProxy};

use crate::{
    answer::{Cluster, Node, PoolUse, Route},
    args::{self, Command, CommandLine},
    complete,
    export::Wanted,
    failure::Failure,
    global::Output,
    json,
    link::{EventFilter, Link},
    show::{self, Show},
    text,
};

use drain::Order;

/// Executes a command.
pub(crate) async fn run(command_line: CommandLine) -> Result<(), Failure> {
    let CommandLine { global, command } = command_line;
    let output = global.output;
    let mut link = global.link()?;
    match command {
        Command::Pool(command) => pool(&mut link, output, command).await,
        Command::Node(command) => node(&mut link, output, command).await,
        Command::Route(args::Route::List { node }) => {
            let routes = link.routes(node.as_ref()).await?;
            show::print(output, &Routes(routes))
        }
        Command::Route(args::Route::Export { format, since, via, discard_pools }) => {
            let wanted = Wanted { via, discard_pools };
            export::export(&mut link, output, format, since.as_deref(), wanted).await
        }
        Command::Bgp { node } => {
            let cluster = link.cluster().await?;
            show::warn(&cluster.unreadable);
            if let Some(name) = &node {
                named::node(&cluster, name)?;
            }
            show::print(output, &Bgp { cluster, only: node })
        }
        Command::Reserve { prefix, node, reason } => {
            let node = node.map(|node| node.to_string()).unwrap_or_default();
            reservations::reserve(&mut link, output, prefix, node, reason).await
        }
        Command::Unreserve { prefix } => reservations::unreserve(&mut link, output, prefix).await,
        Command::Reservations => reservations::list(&mut link, output).await,
        Command::Status => status(&link.cluster().await?, output),
        Command::Plan { node } => plan::plan(&mut link, output, &node).await,
        Command::Trace { from, to } => trace::trace(&mut link, output, &from, &to).await,
        Command::Events { follow, node, last } => {
            events::events(&mut link, output, &EventFilter { follow, node, last }).await
        }
        Command::Explain { address } => explain::explain(&mut link, output, address).await,
        Command::Backup { file, force } => backup::backup(&mut link, output, &file, force).await,
        Command::Restore { file: Some(file), .. } => backup::restore(&mut link, output, &file).await,
        Command::Restore { file: None, .. } => backup::undo(&mut link, output).await,
        Command::Recover { accept_unsigned: true, .. } => backup::accept_unsigned(&mut link, output).await,
        Command::Recover { finish, confirm, .. } => backup::recover(&mut link, output, finish, confirm).await,
        Command::Pause => show::print(output, &Paused { paused: true, revision: link.pause().await? }),
        Command::Resume => show::print(output, &Paused { paused: false, revision: link.resume().await? }),
        Command::Wait { revision, timeout } => wait::wait(&mut link, output, revision, timeout).await,
        Command::Token(command) => token::token(&mut link, output, command).await,
        Command::Revoke(command) => revoke::revoke(&mut link, output, command).await,
        Command::Whoami => whoami::whoami(&mut link, output).await,
        Command::Completions { shell } => complete::script(shell),
        Command::Manual { share } => complete::manual(&share),
    }
}

/// Fails if the queried controller has a problem with its store.
fn status(cluster: &Cluster, output: Output) -> Result<(), Failure> {
    show::print(output, cluster)?;
    let problems = cluster.asked().map(|asked| &asked.problems[..]).unwrap_or_default();
    problems.first().map_or(Ok(()), |problem| Err(Failure::Unavailable(problem.to_string())))
}

async fn pool(link: &mut Link, output: Output, command: args::Pool) -> Result<(), Failure> {
    match command {
        args::Pool::Add { name, prefix, host_len, container_len } => {
            let pool = Pool::new(name, prefix, host_len, container_len.unwrap_or(host_len))?;
            let revision = link.add_pool(&pool).await?;
            show::print(output, &PoolAdded { pool, revision })
        }
        args::Pool::List => {
            let pools = link.pools().await?;
            show::warn(&pools.unreadable);
            show::print(output, &Pools(pools.items))
        }
        args::Pool::Show { name } => {
            let pools = link.pools().await?;
            let used = pools.items.into_iter().find(|used| used.pool.name == name);
            show::print(output, &used.ok_or_else(|| Failure::no_pool(&name))?)
        }
        args::Pool::Drain { name } => {
            let revision = link.drain_pool(&name, true).await?;
            show::print(output, &PoolChanged { name, revision, what: "closed to new claims".into() })
        }
        args::Pool::Undrain { name } => {
            let revision = link.drain_pool(&name, false).await?;
            show::print(output, &PoolChanged { name, revision, what: "open to new claims".into() })
        }
        args::Pool::Grow { name, prefix } => {
            let revision = link.grow_pool(&name, prefix).await?;
            show::print(output, &PoolChanged { name, revision, what: format!("grown to {prefix}") })
        }
        args::Pool::Remove { name } => {
            let revision = link.remove_pool(&name).await?;
            show::print(output, &PoolRemoved { name, revision })
        }
    }
}

async fn node(link: &mut Link, output: Output, command: args::Node) -> Result<(), Failure> {
    match command {
        args::Node::List => {
            let cluster = link.cluster().await?;
            show::warn(&cluster.unreadable);
            show::print(output, &Nodes(cluster))
        }
        args::Node::Show { name, containers } => {
            let cluster = link.cluster().await?;
            show::warn(&cluster.unreadable);
            let mut node = named::node(&cluster, &name)?.clone();
            if node.is_ndp_proxy() {
                let ndp = link.ndp(&name, containers).await;
                node.ndp = Some(ndp.map_err(|failure| failure.to_string()));
            }
            if !containers {
                return show::print(output, &OneNode(&node, &cluster));
            }
            let found = link.containers(&name).await?;
            show::print(output, &WithContainers { node: OneNode(&node, &cluster), found })
        }
        args::Node::Drain { name, timeout, no_wait } => {
            drain::drain(link, output, &order(&name, timeout, no_wait)).await
        }
        args::Node::Undrain { name, timeout, no_wait } => {
            drain::undrain(link, output, &order(&name, timeout, no_wait)).await
        }
        args::Node::Reassign { name, prefix, pool, timeout } => {
            let order = reassign::Order { name: &name, prefix, pool: pool.as_ref(), timeout };
            reassign::reassign(link, output, &order).await
        }
        args::Node::Revoke { name, undo } => {
            let (revision, holds_claim) = link.revoke_node(&name, undo).await?;
            show::print(output, &NodeRevoked { name, revoked: !undo, revision, holds_claim })
        }
        args::Node::Forget { names, pool, force, confirm } => {
            let mut seen = std::collections::BTreeSet::new();
            let names: Vec<_> = names.into_iter().filter(|name| seen.insert(name.clone())).collect();
            if let Some(pool) = &pool {
                forget::all_hold_claims(&link.nodes().await?.items, &names, pool)?;
            }
            let (prefixes, revision) = link.forget_nodes(&names, pool.as_ref(), force, confirm).await?;
            let nodes = names.into_iter().zip(prefixes).collect();
            show::print(output, &Forgotten { nodes, pool, revision })
        }
    }
}

fn order(name: &NodeName, timeout: std::time::Duration, no_wait: bool) -> Order<'_> {
    Order { name, timeout, no_wait }
}

struct PoolAdded {
    pool: Pool,
    revision: Revision,
}

struct PoolChanged {
    name: PoolName,
    revision: Revision,
    what: String,
}

struct NodeRevoked {
    name: NodeName,
    revoked: bool,
    revision: Revision,
    holds_claim: bool,
}

struct PoolRemoved {
    name: PoolName,
    revision: Revision,
}

struct Paused {
    paused: bool,
    revision: Revision,
}

struct Forgotten {
    nodes: Vec<(NodeName, Vec<Prefix>)>,
    /// The only pool in which claims ended.
    pool: Option<PoolName>,
    revision: Revision,
}

struct Pools(Vec<PoolUse>);

struct Nodes(Cluster);

struct OneNode<'a>(&'a Node, &'a Cluster);

struct WithContainers<'a> {
    node: OneNode<'a>,
    found: Containers,
}

struct Routes(Vec<Route>);

struct Bgp {
    cluster: Cluster,
    only: Option<NodeName>,
}

impl Bgp {
    fn neighbours(&self) -> impl Iterator<Item = (&NodeName, &BgpNeighbour)> {
        let nodes = self.cluster.nodes.iter();
        let wanted = nodes.filter(|node| self.only.as_ref().is_none_or(|only| only == node.name()));
        wanted.flat_map(|node| {
            let of_node = node.applied.iter().flat_map(|applied| &applied.ack.bgp);
            of_node.map(|neighbour| (node.name(), neighbour))
        })
    }
}

impl Show for PoolAdded {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Pool { name, prefix, host_len, container_len, .. } = &self.pool;
        let warning = if self.pool.carries_mac() {
            ""
        } else {
            "warning: a container prefix longer than /80 cannot carry a container's MAC address\n"
        };
        format!(
            "pool {name} {prefix} added: each host gets a /{host_len}, its containers a /{container_len}\n{warning}"
        )
    }

    fn json(&self) -> Value {
        json::value(json::PoolChanged { name: &self.pool.name, revision: self.revision })
    }
}

impl Show for PoolChanged {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("pool {} {}\n", self.name, self.what)
    }

    fn json(&self) -> Value {
        json::value(json::PoolChanged { name: &self.name, revision: self.revision })
    }
}

impl Show for NodeRevoked {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Self { name, .. } = self;
        match (self.revoked, self.holds_claim) {
            (false, _) => format!("node {name} permitted again\n"),
            (true, true) => format!(
                "node {name} revoked: its streams and calls are refused. Its peers route to it until you run `sextant node forget \
                 {name}`\n"
            ),
            (true, false) => {
                format!("node {name} revoked: its streams and calls are refused. It holds no claim\n")
            }
        }
    }

    fn json(&self) -> Value {
        let Self { name, revoked, revision, holds_claim } = self;
        json::value(json::NodeRevoked {
            name,
            revoked: *revoked,
            revision: *revision,
            holds_claim: *holds_claim,
        })
    }
}

impl Show for PoolRemoved {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("pool {} removed\n", self.name)
    }

    fn json(&self) -> Value {
        json::value(json::PoolChanged { name: &self.name, revision: self.revision })
    }
}

impl Show for Paused {
    fn text(&self, _now_unix_ms: u64) -> String {
        match self.paused {
            true => "paused: no agent changes its kernel until `sextant resume`\n".into(),
            false => "resumed\n".into(),
        }
    }

    fn json(&self) -> Value {
        json::value(json::Paused { paused: self.paused, revision: self.revision })
    }
}

impl Show for Forgotten {
    fn text(&self, _now_unix_ms: u64) -> String {
        let of_pool = self.pool.as_ref().map(|pool| format!(" in pool {pool}")).unwrap_or_default();
        let line = |(name, prefixes): &(NodeName, Vec<Prefix>)| {
            let are = if prefixes.len() > 1 { "are" } else { "is" };
            format!("{name} forgotten{of_pool}: {} {are} no longer claimed\n", text::listed(prefixes))
        };
        self.nodes.iter().map(line).collect()
    }

    /// One node as an object, several as a list of objects.
    fn json(&self) -> Value {
        let revision = self.revision;
        let one = |(name, prefixes): &(NodeName, Vec<Prefix>)| {
            json::value(json::ForgottenNode { name, prefix: prefixes.first().copied(), prefixes, revision })
        };
        match &self.nodes[..] {
            [node] => one(node),
            nodes => nodes.iter().map(one).collect(),
        }
    }
}

impl Show for PoolUse {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::pool_show(self)
    }

    fn json(&self) -> Value {
        json::value(json::Pool::from(self))
    }
}

impl Show for Pools {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::pool_list(&self.0)
    }

    fn json(&self) -> Value {
        json::list(self.0.iter().map(json::Pool::from))
    }
}

impl Show for Nodes {
    fn text(&self, now_unix_ms: u64) -> String {
        text::node_list(&self.0, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::list(self.0.nodes.iter().map(|node| json::Node::new(node, &self.0)))
    }
}

impl Show for OneNode<'_> {
    fn text(&self, now_unix_ms: u64) -> String {
        text::node_show(self.0, self.1, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::value(json::Node::new(self.0, self.1))
    }
}

impl WithContainers<'_> {
    fn answered_for(&self) -> Option<&NdpProxy> {
        self.node.0.ndp.as_ref()?.as_ref().ok()
    }
}

impl Show for WithContainers<'_> {
    fn text(&self, now_unix_ms: u64) -> String {
        let answered = self.answered_for().map(|ndp| format!("\n{}", text::answered_for(ndp, now_unix_ms)));
        let (node, found) = (self.node.text(now_unix_ms), text::containers(&self.found));
        format!("{node}\n{found}{}", answered.unwrap_or_default())
    }

    fn json(&self) -> Value {
        json::value(json::Containers::new(self.node.0.name(), &self.found, self.answered_for()))
    }
}

impl Show for Routes {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::route_list(&self.0)
    }

    fn json(&self) -> Value {
        json::list(self.0.iter().map(json::Route::from))
    }
}

impl Show for Bgp {
    fn text(&self, now_unix_ms: u64) -> String {
        text::bgp_list(self.neighbours(), now_unix_ms)
    }

    fn json(&self) -> Value {
        json::list(self.neighbours().map(|(node, neighbour)| json::BgpNeighbour::new(node, neighbour)))
    }
}

impl Show for Cluster {
    fn text(&self, now_unix_ms: u64) -> String {
        text::status(self, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::value(json::Status::from(self))
    }
}
