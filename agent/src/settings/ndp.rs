//! The settings of answers to neighbour solicitations.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sextant_ndp::proxy::{Answer, Source};

use super::{Invalid, Topology, keys::NdpKeys, value};

/// Who answers neighbour solicitations for containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NdpMode {
    /// The agent for whatever address of the container prefixes a container has, and the kernel once it is known
    #[default]
    Prefix,
    /// The kernel, for the addresses of containers that are known
    Address,
}

/// The addresses that are answered for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NdpAnswer {
    /// Those that a container has
    #[default]
    Live,
    /// All of the container prefixes: providers may take that for an attack
    All,
}

/// The source address of advertisements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NdpSource {
    /// The link-local address of the uplink
    #[default]
    LinkLocal,
    /// The container's address, for providers that drop others
    Target,
}

impl From<NdpSource> for Source {
    fn from(source: NdpSource) -> Self {
        match source {
            NdpSource::LinkLocal => Self::LinkLocal,
            NdpSource::Target => Self::Target,
        }
    }
}

/// How this host answers for its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdpSettings {
    /// Who answers.
    pub mode: NdpMode,
    /// For which addresses.
    pub answer: Answer,
    /// Whether each advertisement replaces what a neighbour knew.
    pub overrides: bool,
    /// The source of advertisements.
    pub source: Source,
}

/// Those of a host that nobody routes a prefix to; none for others, whose keys must not be set.
pub(super) fn ndp(keys: &NdpKeys, topology: Topology) -> Result<Option<NdpSettings>, Invalid> {
    if topology != Topology::NdpProxy {
        let set = [
            ("--ndp-mode", keys.mode.is_some()),
            ("--ndp-answer", keys.answer.is_some()),
            ("--ndp-override", keys.overrides.is_some()),
            ("--ndp-source", keys.source.is_some()),
        ];
        let fix = "is for the topology ndp-proxy; remove it, or set topology = \"ndp-proxy\"";
        let wrong = set.into_iter().find(|(_, is_set)| *is_set);
        return wrong.map_or(Ok(None), |(key, _)| Err(value(key, &"", &fix)));
    }
    let settings = NdpSettings {
        mode: keys.mode.unwrap_or_default(),
        answer: match keys.answer.unwrap_or_default() {
            NdpAnswer::Live => Answer::Live,
            NdpAnswer::All => Answer::All,
        },
        overrides: keys.overrides.unwrap_or(false),
        source: keys.source.unwrap_or_default().into(),
    };
    if settings.mode == NdpMode::Address && settings.answer == Answer::All {
        let fix = "needs mode \"prefix\": the kernel answers for single addresses only";
        return Err(value("--ndp-answer", &"all", &fix));
    }
    if settings.mode == NdpMode::Address && settings.source == Source::Target {
        let fix = "needs mode \"prefix\": the kernel answers from an address of the uplink";
        return Err(value("--ndp-source", &"target", &fix));
    }
    Ok(Some(settings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    #[test]
    fn settings_of_answers_need_their_topology() {
        let proxy = ["--topology", "ndp-proxy"];
        let with = |more: &[&str]| settings(&[&proxy[..], more].concat());
        let plain = with(&[]).unwrap().ndp.unwrap();
        assert_eq!((plain.mode, plain.answer, plain.overrides), (NdpMode::Prefix, Answer::Live, false));
        let other =
            ["--ndp-mode", "prefix", "--ndp-answer", "all", "--ndp-override", "--ndp-source", "target"];
        let read = with(&other).unwrap().ndp.unwrap();
        assert_eq!((read.answer, read.overrides, read.source), (Answer::All, true, Source::Target));
        assert_eq!(settings(&[]).unwrap().ndp, None);
        let error = settings(&["--ndp-override"]).unwrap_err().to_string();
        assert!(error.starts_with("--ndp-override") && error.contains("topology = \"ndp-proxy\""), "{error}");
        let error = with(&["--ndp-mode", "address", "--ndp-answer", "all"]).unwrap_err().to_string();
        assert!(error.starts_with("--ndp-answer all: needs mode"), "{error}");
        let error = with(&["--ndp-mode", "address", "--ndp-source", "target"]).unwrap_err().to_string();
        assert!(error.starts_with("--ndp-source target: needs mode"), "{error}");
    }
}
