//! The agent's picture of the cluster: pools and nodes as the controllers announced them, this node's claim, and which
//! hosts of lost agents still forward. Data only; decisions are made from it in [`crate::routes`].

mod fence;
mod input;
mod verdicts;
mod view;

pub use fence::{Fence, Outside};
pub use input::Input;
pub use verdicts::{Verdict, Verdicts};
pub use view::{Change, Delta, Gap, Snapshot, View};
