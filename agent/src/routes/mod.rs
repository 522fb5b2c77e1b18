//! Which routes should be, which are, and what to do about it. Pure.
//!
//! [`desired`] computes what should be, [`Actual`] holds what the kernel said, [`plan`] subtracts.

mod actual;
mod brake;
mod covers;
mod damping;
mod desired;
mod failures;
mod imported;
mod imports;
mod map;
mod plan;
mod reading;

pub use actual::Actual;
pub use brake::{Brake, Sight};
pub use damping::Damping;
pub use desired::{Desired, Host, desired, own_record};
pub use failures::Failures;
pub use imported::may_go;
pub use imports::{Hop, Imports, ReceivedPath};
pub use map::{Entry, RouteMap};
pub use plan::{Plan, plan};
pub use reading::{Foreign, ForeignReader, OursReader};
