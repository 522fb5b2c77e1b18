//! The claims, in two files: the primary one's is as versions before claims of several pools read it. Each names the id of its
//! node: a directory that was put together from those of two nodes has claims of one only.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use sextant_proto::{
    Claim, Epoch, NodeId, Pool, Revision,
    convert::{MessageError, parse},
};

use super::{CLAIM, MORE_CLAIMS, NODE_ID, StateDir, StateError, malformed, read};

impl StateDir {
    /// This node's claims, as last received from a controller, the primary one first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn claims(&self) -> Result<Vec<Claim>, StateError> {
        Self::peek_claims(&self.path)
    }

    /// The claims in a directory, without its lock.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn peek_claims(path: &Path) -> Result<Vec<Claim>, StateError> {
        let primary: Option<StoredClaim> = read(&path.join(CLAIM))?;
        let mut stored: Vec<_> =
            primary.map(|claim| decoded(claim, &path.join(CLAIM))).transpose()?.into_iter().collect();
        // Damage of the other file is no trouble of the primary claim.
        stored.extend(more_claims(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "claims beside the primary one cannot be read; they are requested again");
            Vec::new()
        }));
        let mut claims: Vec<Claim> = Vec::new();
        // Of two files that are of different times, the primary one counts.
        for claim in own(stored, path) {
            if claims.iter().all(|other| other.pool.name != claim.pool.name) {
                claims.push(claim);
            }
        }
        Ok(claims)
    }

    /// Stores the claims. Writes nothing if they are stored already. The primary one is in a file of its own, which versions
    /// before claims of several pools read. The other file has all of them, since the order of pools may change: whichever file is
    /// written last, no claim is in neither.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn keep_claims(&self, claims: &[Claim]) -> Result<(), StateError> {
        let kept = self.claims().is_ok_and(|kept| kept == claims);
        let node_id = self.held().node_id;
        let stored: Vec<_> = claims.iter().map(|claim| StoredClaim::new(claim, node_id)).collect();
        let all = (stored.len() > 1).then(|| self.json(MORE_CLAIMS, &stored)).transpose()?;
        let primary = stored.first().map(|claim| self.json(CLAIM, claim)).transpose()?;
        if all.is_some() {
            self.keep(MORE_CLAIMS, all, kept)?;
            self.keep(CLAIM, primary, kept)
        } else {
            self.keep(CLAIM, primary, kept)?;
            self.keep(MORE_CLAIMS, None, kept)
        }
    }
}

/// Leaves claims of other nodes out, unless all are: then the directory is a copy, which a controller refuses with the names of
/// both nodes.
fn own(stored: Vec<Stored>, directory: &Path) -> Vec<Claim> {
    let id = fs::read_to_string(directory.join(NODE_ID)).ok();
    let id = id.as_deref().map(str::trim);
    let is_own = |claim: &Stored| id.is_some() && claim.node_id.as_deref() == id;
    let is_mixed = stored.iter().any(is_own);
    let (own, others): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|it| !is_mixed || it.node_id.is_none() || is_own(it));
    for Stored { node_id, claim } in others {
        let (node_id, prefix) = (node_id.unwrap_or_default(), claim.prefix);
        tracing::warn!(node_id, %prefix, "stored claim of another node ignored: the state directory has files of two nodes");
    }
    own.into_iter().map(|it| it.claim).collect()
}

/// The claims in the file beside that of the primary one.
fn more_claims(directory: &Path) -> Result<Vec<Stored>, StateError> {
    let path = directory.join(MORE_CLAIMS);
    let stored: Vec<StoredClaim> = read(&path)?.unwrap_or_default();
    stored.into_iter().map(|claim| decoded(claim, &path)).collect()
}

/// A claim, and the id of its node.
struct Stored {
    node_id: Option<String>,
    claim: Claim,
}

fn decoded(stored: StoredClaim, path: &Path) -> Result<Stored, StateError> {
    let node_id = stored.node_id.clone();
    let claim = Claim::try_from(stored).map_err(|error| malformed(path, &error))?;
    Ok(Stored { node_id, claim })
}

/// A claim as text.
#[derive(Debug, Serialize, Deserialize)]
struct StoredClaim {
    /// The id of the node that holds it; none in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    prefix: String,
    incarnation: String,
    revision: u64,
    pool: StoredPool,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPool {
    name: String,
    prefix: String,
    host_len: u32,
    container_len: u32,
}

impl StoredClaim {
    fn new(claim: &Claim, node_id: Option<NodeId>) -> Self {
        let pool = &claim.pool;
        Self {
            node_id: node_id.map(|id| id.to_string()),
            prefix: claim.prefix.to_string(),
            incarnation: claim.epoch.incarnation.to_string(),
            revision: claim.epoch.revision.0,
            pool: StoredPool {
                name: pool.name.to_string(),
                prefix: pool.prefix.to_string(),
                host_len: pool.host_len.into(),
                container_len: pool.container_len.into(),
            },
        }
    }
}

impl TryFrom<StoredClaim> for Claim {
    type Error = MessageError;

    fn try_from(stored: StoredClaim) -> Result<Self, MessageError> {
        let StoredPool { name, prefix, host_len, container_len } = stored.pool;
        let pool =
            Pool::new(parse("pool.name", &name)?, parse("pool.prefix", &prefix)?, host_len, container_len);
        Ok(Self {
            prefix: parse("prefix", &stored.prefix)?,
            epoch: Epoch {
                incarnation: parse("incarnation", &stored.incarnation)?,
                revision: Revision(stored.revision),
            },
            pool: pool.map_err(|error| MessageError::new("pool", error))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::claim, *};

    fn two() -> [Claim; 2] {
        let pool = |name: &str| Pool { name: name.parse().unwrap(), ..claim().pool };
        ["main", "ula"].map(|name| Claim { pool: pool(name), ..claim() })
    }

    /// A directory with these claims, and its node id.
    fn directory(claims: &[Claim]) -> (tempfile::TempDir, NodeId) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let id = state.node_id().unwrap();
        state.keep_claims(claims).unwrap();
        (dir, id)
    }

    #[test]
    fn i3_files_of_another_node_are_left_out() {
        let (own, other) = (two(), two());
        for (foreign, left) in [(vec![MORE_CLAIMS], &own[..1]), (vec![CLAIM], &own[..]), (vec![], &own[..])] {
            let ((dir, id), (of_other, _)) = (directory(&own), directory(&other));
            for file in &foreign {
                fs::copy(of_other.path().join(file), dir.path().join(file)).unwrap();
            }
            assert_eq!(StateDir::peek_claims(dir.path()).unwrap(), left, "{foreign:?}");
            let state = StateDir::open(dir.path()).unwrap();
            assert_eq!(state.node_id().unwrap(), id);
            assert_eq!(state.claims().unwrap(), left, "{foreign:?}");
            state.keep_claims(&own).unwrap();
            assert_eq!(state.claims().unwrap(), own);
        }
    }

    /// A copy without the node id, and one whose claims are all of another node: a controller refuses it.
    #[test]
    fn a_directory_with_the_claims_of_one_other_node_keeps_them() {
        let (dir, id) = directory(&two());
        fs::remove_file(dir.path().join(NODE_ID)).unwrap();
        assert_eq!(StateDir::peek_claims(dir.path()).unwrap().len(), 2);
        let state = StateDir::open(dir.path()).unwrap();
        assert_ne!(state.node_id().unwrap(), id);
        assert_eq!(state.claims().unwrap().len(), 2);
    }

    /// Versions before this one do not name the node.
    #[test]
    fn claims_without_a_node_id_are_the_nodes_own() {
        let (dir, _) = directory(&two());
        for file in [CLAIM, MORE_CLAIMS] {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            let without: Vec<_> = text.lines().filter(|line| !line.contains("node_id")).collect();
            assert_ne!(without.join("\n"), text.trim_end());
            fs::write(dir.path().join(file), without.join("\n")).unwrap();
        }
        assert_eq!(StateDir::peek_claims(dir.path()).unwrap().len(), 2);
    }

    /// A process that is killed between its two renames leaves files of two times.
    #[test]
    fn no_claim_is_lost_between_two_writes() {
        let pool = |name: &str| Pool { name: name.parse().unwrap(), ..claim().pool };
        let [main, ula] = ["main", "ula"].map(|name| Claim { pool: pool(name), ..claim() });
        let pools =
            |claims: &[Claim]| -> Vec<_> { claims.iter().map(|it| it.pool.name.to_string()).collect() };
        let of = |claims: &[&Claim]| -> Vec<Claim> { claims.iter().map(|&claim| claim.clone()).collect() };
        let both = of(&[&main, &ula]);
        let changes = [
            (both.clone(), of(&[&ula, &main])),
            (both.clone(), of(&[&ula])),
            (both.clone(), of(&[&main])),
            (of(&[&main]), of(&[&ula, &main])),
            (of(&[&ula]), both),
        ];
        for (before, after) in changes {
            let files = |claims: &[Claim]| {
                let dir = tempfile::tempdir().unwrap();
                StateDir::open(dir.path()).unwrap().keep_claims(claims).unwrap();
                [CLAIM, MORE_CLAIMS].map(|name| fs::read(dir.path().join(name)).ok())
            };
            let (old, new) = (files(&before), files(&after));
            // The file that is written first: the one with all claims, if there are several.
            let between = if after.len() > 1 { [&old[0], &new[1]] } else { [&new[0], &old[1]] };
            let dir = tempfile::tempdir().unwrap();
            for (name, content) in [CLAIM, MORE_CLAIMS].into_iter().zip(between) {
                content.iter().for_each(|content| fs::write(dir.path().join(name), content).unwrap());
            }
            let found = pools(&StateDir::peek_claims(dir.path()).unwrap());
            let missing: Vec<_> = pools(&after).into_iter().filter(|name| !found.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?} from {:?} to {:?}", pools(&before), pools(&after));
        }
    }

    #[test]
    fn damage_of_the_other_claims_is_no_trouble_of_the_primary_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let ula = Claim { pool: Pool { name: "ula".parse().unwrap(), ..claim().pool }, ..claim() };
        let main = claim();
        state.keep_claims(&[main.clone(), ula]).unwrap();
        for damage in ["", "[", "[{}]", "{\"prefix\": 5}"] {
            fs::write(dir.path().join(MORE_CLAIMS), damage).unwrap();
            assert_eq!(StateDir::peek_claims(dir.path()).unwrap(), std::slice::from_ref(&main), "{damage}");
        }
    }
}
