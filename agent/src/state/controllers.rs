//! Where controllers are reached, as controllers have told, as it is stored.

use serde::{Deserialize, Serialize};

use super::{StateDir, StateError};

const CONTROLLERS: &str = "controllers.json";

/// URLs of controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToldControllers {
    /// Those that the settings named then.
    pub configured: Vec<String>,
    /// By the last message.
    pub present: Vec<String>,
    /// By earlier ones, the last one first.
    pub earlier: Vec<String>,
}

impl StateDir {
    /// What was told.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn told_controllers(&self) -> Result<ToldControllers, StateError> {
        Ok(self.read(CONTROLLERS)?.unwrap_or_default())
    }

    /// Stores that.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_told_controllers(&self, told: &ToldControllers) -> Result<(), StateError> {
        self.keep(CONTROLLERS, Some(self.json(CONTROLLERS, told)?), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let told = ToldControllers { present: vec!["https://[::1]:1".into()], ..ToldControllers::default() };
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.told_controllers().unwrap(), ToldControllers::default());
        state.keep_told_controllers(&told).unwrap();
        drop(state);
        assert_eq!(StateDir::open(dir.path()).unwrap().told_controllers().unwrap(), told);
    }
}
