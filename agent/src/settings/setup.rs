//! The settings of `sextant-agent docker setup`.

use std::path::{Path, PathBuf};

use sextant_daemon::layered;

use super::{
    CommandLine, DEFAULT_CONFIG, DEFAULT_STATE_DIR, DockerMode, DockerSettings, Invalid,
    docker::{bridge_and_docker, docker, engines_bridge},
    keys::Keys,
    value,
};

/// How a host's Docker engine is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSetup {
    /// The settings of Docker with the mode that is wanted.
    pub docker: DockerSettings,
    /// The engine's default bridge.
    pub bridge: String,
    /// The directory of the agent's persistent state.
    pub state_dir: PathBuf,
    /// The agent's config file.
    pub config: PathBuf,
    /// The settings name a controller.
    pub has_controller: bool,
}

impl CommandLine {
    /// The settings for this mode, or else for the one of the config file.
    ///
    /// # Errors
    /// If a setting is invalid, or there is no mode.
    pub fn docker_setup(&self, mode: Option<DockerMode>) -> Result<DockerSetup, Invalid> {
        let mut keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        keys.docker.mode = mode.or(keys.docker.mode);
        let (_, docker) = bridge_and_docker(&keys)?;
        let Some(docker) = docker else {
            let fix = "sets nothing up; name one with --mode: network, daemon, pools, ipam or none. --undo takes an earlier setup back";
            return Err(value("[docker] mode", &DockerMode::Off.name(), &fix));
        };
        Ok(self.setup_of(keys, docker))
    }

    /// The settings to take an earlier setup back, which may have been for any mode.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn docker_undo(&self) -> Result<DockerSetup, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let docker = docker(&keys)?;
        Ok(self.setup_of(keys, docker))
    }

    fn setup_of(&self, keys: Keys, docker: DockerSettings) -> DockerSetup {
        DockerSetup {
            docker,
            bridge: engines_bridge(&keys).to_owned(),
            has_controller: keys.controller.is_some(),
            state_dir: keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            config: self.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_mode_of_the_command_counts_before_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("agent.toml");
        let setup = |text: &str, mode| {
            std::fs::write(&config, text).unwrap();
            let line = ["sextant-agent", "--config", config.to_str().unwrap()];
            CommandLine::parse_from(line).docker_setup(mode)
        };
        let daemon = setup("[docker]\nmode = \"network\"\n", Some(DockerMode::Daemon)).unwrap();
        assert_eq!((daemon.docker.mode, daemon.bridge.as_str()), (DockerMode::Daemon, "docker0"));
        assert_eq!(daemon.config, config);
        let network = setup("[docker]\nmode = \"network\"\nrestart = true\n", None).unwrap();
        assert_eq!((network.docker.mode, network.docker.restart), (DockerMode::Network, true));
        assert_eq!(network.bridge, "docker0", "not that of the agent's network");
        for mode in [None, Some(DockerMode::Off)] {
            let nothing = setup("", mode).unwrap_err().to_string();
            assert!(nothing.contains("name one with --mode"), "{nothing}");
        }
        let bridge = setup("[bridge]\ninterface = \"docker0\"\n", Some(DockerMode::Network));
        assert!(bridge.unwrap_err().to_string().contains("belongs to Docker's own network"));
    }
}
