//! Which routes should be, which are, and what to do about it. Pure.
//!
//! [`desired`] computes what should be, [`Actual`] holds what the kernel said, [`plan`] subtracts.

mod actual;
mod brake;
mod covers;
mod desired;
mod imported;
mod map;
mod plan;
mod reading;

pub use actual::Actual;
pub use brake::{Brake, KeptBrake, Sight};
pub use desired::{Desired, Host, LocalUplink, desired, own_record, ways};
pub use map::{Entry, RouteMap};
pub use plan::{Plan, plan};
pub use reading::{Foreign, ForeignReader, OursReader};
