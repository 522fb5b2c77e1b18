//! The parts that agent and controller share as daemons: logging, layered settings, probes, essential tasks, notifications to
//! systemd, connections to gRPC servers, and the detection of loops and of lasting failures.

#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod descriptors;
mod logging;
mod once;
mod outage;
mod outages;
mod probes;
mod repeats;
mod settings;
pub mod systemd;
mod tasks;
mod transition;

pub use descriptors::raise_descriptor_limit;
pub use logging::{LogFormat, init_logging};
pub use once::OncePerMinute;
pub use outage::{Failing, Outage, RECOVERED, Recovered};
pub use outages::{FailingServer, Outages};
pub use probes::{Metrics, ProbeError, Probes, Readiness};
pub use repeats::{Repeat, Repeats};
pub use settings::{SettingsError, layered};
pub use tasks::{Essential, TaskEnded, explain, stop_signal};
pub use transition::transition;
