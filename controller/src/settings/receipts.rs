//! The key that signs receipts, where the cluster has no authority of its own.

use std::path::{Path, PathBuf};

use super::{Invalid, Store, beside, value};

/// The file of a key that signs receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptKey {
    /// Its path.
    pub path: PathBuf,
    /// It was set; otherwise it is the default one, without which the controller starts.
    pub is_set: bool,
}

/// The key that is set.
pub(super) fn set(path: Option<PathBuf>, pki: Option<&Path>) -> Result<Option<ReceiptKey>, Invalid> {
    match (path, pki) {
        (Some(path), Some(pki)) => {
            let fix =
                format!("--pki {} certifies the signer of receipts; remove one of the two", pki.display());
            Err(value("--receipt-key", &path.display(), &fix))
        }
        (path, _) => Ok(path.map(|path| ReceiptKey { path, is_set: true })),
    }
}

/// The one beside an embedded store.
pub(super) fn by_default(store: &Store) -> Option<ReceiptKey> {
    beside(store, ".receipts.key").map(|path| ReceiptKey { path, is_set: false })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{super::CommandLine, *};

    fn key(args: &[&str]) -> Result<Option<ReceiptKey>, Invalid> {
        let program = std::iter::once(&"sextant-controller");
        Ok(CommandLine::try_parse_from(program.chain(args)).unwrap().settings()?.receipt_key)
    }

    #[test]
    fn the_key_is_beside_an_embedded_store_unless_it_is_set() {
        let of = |path: &str, is_set| Some(ReceiptKey { path: path.into(), is_set });
        assert_eq!(key(&["--store", "embedded:/s/c.redb"]).unwrap(), of("/s/c.redb.receipts.key", false));
        assert_eq!(key(&["--store", "etcd:http://[::1]:2379"]).unwrap(), None);
        assert_eq!(
            key(&["--store", "etcd:http://[::1]:2379", "--receipt-key", "/k"]).unwrap(),
            of("/k", true)
        );
        let both = key(&["--pki", "/p", "--receipt-key", "/k"]).unwrap_err().to_string();
        assert!(both.contains("--receipt-key /k: --pki /p certifies"), "{both}");
    }
}
