//! The edit of the agent's unit: a drop-in that gives its service user the group of the engine's socket.

use crate::record::Edit;

/// Gives the agent a group.
#[derive(Debug, Clone)]
pub struct DropIn {
    /// The name of the group.
    pub group: String,
}

impl Edit for DropIn {
    fn edited(&self, _: Option<&[u8]>) -> Result<Vec<u8>, String> {
        Ok(format!("[Service]\nSupplementaryGroups={}\n", self.group).into_bytes())
    }

    fn undone(&self, _: Option<&[u8]>, _: &[u8], now: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        match now {
            None => Ok(None),
            Some(_) => Err("it was changed since; remove SupplementaryGroups= in it by hand".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    #[test]
    fn a_drop_in_that_others_have_changed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sextant-agent.service.d/docker.conf");
        let edit = DropIn { group: "docker".into() };
        assert!(record::edit(&path, &edit).unwrap().is_change(), "its directory is made");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[Service]\nSupplementaryGroups=docker\n");
        assert!(record::undo(&path, &edit).unwrap().unwrap().is_change());
        assert!(!path.exists());
        record::edit(&path, &edit).unwrap();
        std::fs::write(&path, "[Service]\nSupplementaryGroups=docker adm\n").unwrap();
        assert!(record::undo(&path, &edit).unwrap_err().to_string().contains("by hand"));
        assert!(path.exists());
    }
}
