//! What both daemons share: logging, layered settings, probes, essential tasks, what systemd is told.

mod logging;
mod probes;
mod settings;
pub mod systemd;
mod tasks;
mod transition;

pub use logging::{LogFormat, init_logging};
pub use probes::{Metrics, ProbeError, Probes, Readiness};
pub use settings::{SettingsError, layered};
pub use tasks::{Essential, TaskEnded, explain, stop_signal};
pub use transition::transition;
