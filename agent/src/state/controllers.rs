//! Where controllers are reached, as controllers announce it, as it is stored.

use serde::{Deserialize, Serialize};

use super::{StateDir, StateError};

const CONTROLLERS: &str = "controllers.json";

/// URLs of controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnnouncedControllers {
    /// Those that the settings named then.
    pub configured: Vec<String>,
    /// By the last message.
    pub present: Vec<String>,
    /// By earlier ones, the last one first.
    pub earlier: Vec<String>,
}

impl StateDir {
    /// What was announced.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn announced_controllers(&self) -> Result<AnnouncedControllers, StateError> {
        Ok(self.read(CONTROLLERS)?.unwrap_or_default())
    }

    /// Stores that.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_announced_controllers(&self, announced: &AnnouncedControllers) -> Result<(), StateError> {
        self.keep(CONTROLLERS, Some(self.json(CONTROLLERS, announced)?), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_announced_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let announced = AnnouncedControllers {
            present: vec!["https://[::1]:1".into()],
            ..AnnouncedControllers::default()
        };
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.announced_controllers().unwrap(), AnnouncedControllers::default());
        state.keep_announced_controllers(&announced).unwrap();
        drop(state);
        assert_eq!(StateDir::open(dir.path()).unwrap().announced_controllers().unwrap(), announced);
    }
}
