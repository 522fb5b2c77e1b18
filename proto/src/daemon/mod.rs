//! What both daemons share: logging, layered settings, probes, essential tasks, what systemd is told, and what repeats:
//! loops, and failures that last.

mod descriptors;
mod logging;
mod outage;
mod probes;
mod repeats;
mod settings;
pub mod systemd;
mod tasks;
mod transition;

pub use descriptors::raise_descriptor_limit;
pub use logging::{LogFormat, init_logging};
pub use outage::{Failing, Outage, RECOVERED, Recovered};
pub use probes::{Metrics, ProbeError, Probes, Readiness};
pub use repeats::{Repeat, Repeats};
pub use settings::{SettingsError, layered};
pub use tasks::{Essential, TaskEnded, explain, stop_signal};
pub use transition::transition;
