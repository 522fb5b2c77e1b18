//! The claims, in two files: the primary one's is as versions before claims of several pools read it.

use std::path::Path;

use sextant_proto::Claim;

use super::{CLAIM, MORE_CLAIMS, StateDir, StateError, ledger::StoredClaim, malformed, read};

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
        let primary = primary.map(Claim::try_from).transpose();
        let mut claims: Vec<_> =
            primary.map_err(|error| malformed(&path.join(CLAIM), &error))?.into_iter().collect();
        // Of two files that are of different times, the primary one counts. Damage of the other one is no trouble of its claim.
        let more = more_claims(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "claims beside the primary one cannot be read; they are requested again");
            Vec::new()
        });
        for claim in more {
            if claims.iter().all(|other: &Claim| other.pool.name != claim.pool.name) {
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
        let stored: Vec<_> = claims.iter().map(StoredClaim::from).collect();
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

/// The claims in the file beside that of the primary one.
fn more_claims(directory: &Path) -> Result<Vec<Claim>, StateError> {
    let path = directory.join(MORE_CLAIMS);
    let stored: Vec<StoredClaim> = read(&path)?.unwrap_or_default();
    let claims = stored.into_iter().map(Claim::try_from);
    claims.collect::<Result<_, _>>().map_err(|error| malformed(&path, &error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sextant_proto::Pool;

    use super::{super::tests::claim, *};

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
