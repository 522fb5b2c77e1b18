//! The table of `docs/docker.md`, "What packets to containers reach". Pure.

/// `[docker] from-cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromCluster {
    Open,
    Published,
}

/// `[docker] from-outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromOutside {
    Published,
    Open,
    Closed,
}

/// Both settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub from_cluster: FromCluster,
    pub from_outside: FromOutside,
}

/// Where a packet to a container comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A container on the same network.
    Neighbour,
    /// A container on another network of the same host's prefix.
    OtherNetwork,
    /// A container of another host.
    Cluster,
    /// A host with an address outside of the pools.
    Outside,
}

/// What a packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    Tcp {
        published: bool,
    },
    Udp {
        published: bool,
    },
    /// `ping`.
    Echo,
    /// A published UDP port on which nothing listens: the answer is an ICMPv6 error.
    Refused,
}

impl Policy {
    pub const ALL: [Self; 6] = {
        use FromCluster as Cluster;
        use FromOutside as Outside;
        [
            Self { from_cluster: Cluster::Open, from_outside: Outside::Published },
            Self { from_cluster: Cluster::Open, from_outside: Outside::Open },
            Self { from_cluster: Cluster::Open, from_outside: Outside::Closed },
            Self { from_cluster: Cluster::Published, from_outside: Outside::Published },
            Self { from_cluster: Cluster::Published, from_outside: Outside::Open },
            Self { from_cluster: Cluster::Published, from_outside: Outside::Closed },
        ]
    };

    /// The flags of an agent.
    pub fn flags(self) -> [&'static str; 4] {
        let from_cluster = match self.from_cluster {
            FromCluster::Open => "open",
            FromCluster::Published => "published",
        };
        let from_outside = match self.from_outside {
            FromOutside::Published => "published",
            FromOutside::Open => "open",
            FromOutside::Closed => "closed",
        };
        ["--docker-from-cluster", from_cluster, "--docker-from-outside", from_outside]
    }
}

impl Packet {
    pub const ALL: [Self; 6] = [
        Self::Tcp { published: true },
        Self::Tcp { published: false },
        Self::Udp { published: true },
        Self::Udp { published: false },
        Self::Echo,
        Self::Refused,
    ];

    /// Whether `published` lets it pass.
    fn is_published(self) -> bool {
        match self {
            Self::Tcp { published } | Self::Udp { published } => published,
            Self::Echo | Self::Refused => true,
        }
    }
}

/// Whether a container is reached. It does not depend on the mode, nor on the engine and its firewall.
pub fn reaches(policy: Policy, source: Source, packet: Packet) -> bool {
    match source {
        Source::Neighbour | Source::OtherNetwork => true,
        Source::Cluster => match policy.from_cluster {
            FromCluster::Open => true,
            FromCluster::Published => packet.is_published(),
        },
        Source::Outside => match policy.from_outside {
            FromOutside::Open => true,
            FromOutside::Published => packet.is_published(),
            FromOutside::Closed => false,
        },
    }
}
