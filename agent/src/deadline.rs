//! Waiting for a point in time that may not exist.

use tokio::time::{Instant, sleep_until};

/// Waits until `deadline`; for ever if there is none. Cancel safe.
pub async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
