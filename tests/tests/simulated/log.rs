//! The logs of simulated processes, in memory, with the process and the world's time.

use std::{cell::RefCell, fmt, io, time::Duration};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
};

thread_local! {
    static STAGE: RefCell<(String, Duration)> = const { RefCell::new((String::new(), Duration::ZERO)) };
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Logs of this thread go to memory from now on.
pub fn begin() -> tracing::subscriber::DefaultGuard {
    let filter = std::env::var("SEXTANT_SIMULATED_LOG");
    let filter = filter
        .unwrap_or_else(|_| "warn,sextant_agent=info,sextant_controller=info,sextant_daemon=debug".into());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(false)
        .with_target(false)
        .with_timer(Stage)
        .with_writer(Lines)
        .finish();
    tracing::subscriber::set_default(subscriber)
}

/// What is logged from now on, this process logs at this time.
pub fn on_stage(name: &str, now: Duration) {
    STAGE.with_borrow_mut(|stage| {
        if stage.0 != name {
            name.clone_into(&mut stage.0);
        }
        stage.1 = now;
    });
}

/// Adds a line of the world's own.
pub fn note(now: Duration, line: &str) {
    on_stage("world", now);
    LINES.with_borrow_mut(|lines| lines.extend(format!("{} {line}\n", stamp()).into_bytes()));
}

/// All lines so far.
pub fn text() -> String {
    LINES.with_borrow(|lines| String::from_utf8_lossy(lines).into_owned())
}

fn stamp() -> String {
    STAGE.with_borrow(|(name, now)| format!("{:8.3} {name}", now.as_secs_f64()))
}

struct Stage;

impl FormatTime for Stage {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&stamp())
    }
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(octets));
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
