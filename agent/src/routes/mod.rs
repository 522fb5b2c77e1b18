//! Which routes should be, which are, and what to do about it. Pure.
//!
//! [`desired`](desired()) computes what should be, [`Actual`] holds what the kernel said, [`decide`](decide()) compares both for
//! one route, with what [`Memory`] has of earlier passes, and [`plan`](plan()) for all of them. Both have a form for one
//! destination or route and one for all, and the second is the sum of the first.

mod actual;
mod aggregates;
mod brake;
mod conflicts;
mod covers;
mod damping;
mod decide;
mod desired;
mod failures;
mod findings;
#[cfg(test)]
pub(crate) mod fixture;
mod imported;
mod imports;
mod infrastructure;
mod known;
mod map;
mod memory;
mod networks;
mod peers;
mod plan;
mod policy;
#[cfg(test)]
pub(crate) mod random_states;
mod reading;
mod reason;
mod shared_hops;
mod subjects;
mod unreached;
mod wanted;

pub use actual::Actual;
pub use aggregates::refused_pools;
pub use brake::Brake;
pub use conflicts::{Capture, Ground};
pub use damping::Damping;
pub use decide::{Decision, Facts, Hold, Planned, Step, decide};
pub use desired::{Context, Desired, desired, desired_at};
pub use failures::Failures;
pub use findings::findings;
pub use imports::{Hop, Imports, ReceivedPath};
pub use infrastructure::Infrastructure;
pub use known::{Known, own_state};
pub use map::{Entry, RouteMap};
pub use memory::Memory;
pub use networks::{container_links, networks};
pub use peers::{Assessment, PeerState, is_routed};
pub use plan::{Plan, plan};
pub use policy::{Flow, Place, Policy, Traffic, is_judged, selected};
pub use reading::{Foreign, ForeignReader, OursReader};
pub use reason::{Owner, Reason};
pub use subjects::{Subject, Subjects};
pub use unreached::Unreached;
pub use wanted::Wanted;
