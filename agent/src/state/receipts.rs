//! The receipts of the claims, as controllers signed them. The agent does not read them: it shows them to controllers. They are in a
//! file of their own, which versions before receipts do not touch.

use serde::{Deserialize, Serialize};
use sextant_proto::{
    Claim, Epoch, Prefix, Revision,
    convert::{MessageError, parse},
};

use super::{RECEIPTS, StateDir, StateError};

/// The receipt of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    /// The claim's prefix.
    pub prefix: Prefix,
    /// Since when it is held.
    pub epoch: Epoch,
    /// The receipt, encoded.
    pub octets: Vec<u8>,
}

impl KeptReceipt {
    /// Whether it is that of this claim.
    pub fn is_of(&self, claim: &Claim) -> bool {
        (self.prefix, self.epoch) == (claim.prefix, claim.epoch)
    }
}

/// A receipt as text.
#[derive(Debug, Serialize, Deserialize)]
struct StoredReceipt {
    prefix: String,
    incarnation: String,
    revision: u64,
    /// In hexadecimal digits.
    receipt: String,
}

impl StateDir {
    /// The receipts. A controller signs others in the place of those that cannot be read.
    pub fn receipts(&self) -> Vec<KeptReceipt> {
        let stored = self.read::<Vec<StoredReceipt>>(RECEIPTS);
        let stored = stored.unwrap_or_else(|error| {
            tracing::warn!(%error, "receipts of claims cannot be read; a controller signs new ones");
            None
        });
        stored.into_iter().flatten().filter_map(|it| KeptReceipt::try_from(it).ok()).collect()
    }

    /// Stores the receipts.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn keep_receipts(&self, receipts: &[KeptReceipt]) -> Result<(), StateError> {
        let stored: Vec<StoredReceipt> = receipts.iter().map(Into::into).collect();
        let content = (!stored.is_empty()).then(|| self.json(RECEIPTS, &stored)).transpose()?;
        self.keep(RECEIPTS, content, false)
    }
}

impl From<&KeptReceipt> for StoredReceipt {
    fn from(KeptReceipt { prefix, epoch, octets }: &KeptReceipt) -> Self {
        Self {
            prefix: prefix.to_string(),
            incarnation: epoch.incarnation.to_string(),
            revision: epoch.revision.0,
            receipt: octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }
}

impl TryFrom<StoredReceipt> for KeptReceipt {
    type Error = MessageError;

    fn try_from(stored: StoredReceipt) -> Result<Self, MessageError> {
        let incarnation = parse("incarnation", &stored.incarnation)?;
        Ok(Self {
            prefix: parse("prefix", &stored.prefix)?,
            epoch: Epoch { incarnation, revision: Revision(stored.revision) },
            octets: octets(&stored.receipt)
                .ok_or_else(|| MessageError::new("receipt", "is not in hexadecimal digits"))?,
        })
    }
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::tests::claim, *};

    #[test]
    fn receipts_survive_a_restart_and_damage_costs_only_them() {
        let dir = tempfile::tempdir().unwrap();
        let claim = claim();
        let (prefix, epoch) = (claim.prefix, claim.epoch);
        let kept = KeptReceipt { prefix, epoch, octets: (0..=255).collect() };
        assert!(kept.is_of(&claim));
        {
            let state = StateDir::open(dir.path()).unwrap();
            assert_eq!(state.receipts(), [], "versions before receipts stored none");
            state.keep_claims(std::slice::from_ref(&claim)).unwrap();
            state.keep_receipts(std::slice::from_ref(&kept)).unwrap();
        }
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.receipts(), std::slice::from_ref(&kept));
        // A directory that was removed is written again with them.
        fs::remove_file(dir.path().join(RECEIPTS)).unwrap();
        state.check().unwrap();
        assert_eq!(state.receipts(), [kept]);
        for damage in ["", "[", "{}", "[{\"prefix\": 5}]"] {
            fs::write(dir.path().join(RECEIPTS), damage).unwrap();
            assert_eq!(state.receipts(), [], "{damage}");
            assert_eq!(state.claims().unwrap(), std::slice::from_ref(&claim));
        }
        let odd = StoredReceipt {
            prefix: "::/64".into(),
            incarnation: "x".into(),
            revision: 1,
            receipt: "a".into(),
        };
        assert!(KeptReceipt::try_from(odd).is_err());
        assert_eq!(
            (octets("0aFf"), octets("0aF"), octets("+1"), octets("é1")),
            (Some(vec![10, 255]), None, None, None)
        );
        state.keep_receipts(&[]).unwrap();
        assert!(!dir.path().join(RECEIPTS).exists());
    }
}
