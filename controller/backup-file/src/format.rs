//! The format of a backup file: `sextant backup` and a zero octet, the format's version, the body's length, the body (a
//! protobuf message), and the CRC-32 of all before it. Numbers are big-endian.

use bytes::Bytes;
use prost::Message;
use sextant_proto::{Revision, convert, store::v1 as stored};

use super::{Backup, Kept};

const MAGIC: &[u8; 15] = b"sextant backup\0";
/// The newest format that this version reads. It writes the first one that can hold the content.
const VERSION: u32 = 2;
/// The format of backups without nodes that have claims in several pools.
const FIRST_VERSION: u32 = 1;
const HEADER: usize = MAGIC.len() + 4 + 8;
const CHECKSUM: usize = 4;

/// Why octets are not a valid backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The signature is missing.
    #[error("is not a backup of sextant; give a file that `sextant backup FILE` wrote")]
    NotABackup,
    /// Written by a newer version.
    #[error(
        "is a backup of format {0}, and this version reads up to format {VERSION}; use a sextant and a controller of the \
         version that wrote it"
    )]
    Newer(u32),
    /// The length is wrong.
    #[error("is damaged: it has {has} octets and should have {should}; use another copy of it")]
    Length {
        /// The actual length.
        has: u64,
        /// The length by its header.
        should: u64,
    },
    /// The checksum does not match.
    #[error("is damaged: its checksum is {has:08x} and should be {should:08x}; use another copy of it")]
    Checksum {
        /// The actual checksum.
        has: u32,
        /// The checksum in the file.
        should: u32,
    },
    /// The checksum matches, but the content is invalid.
    #[error("cannot be read: {0}; use another backup")]
    Content(String),
}

impl Backup {
    /// Encodes the backup.
    pub fn encode(&self) -> Bytes {
        let body = stored::Backup {
            version: self.version.clone(),
            cluster: self.cluster.clone(),
            store: self.store.clone(),
            incarnation: self.incarnation.into(),
            revision: self.revision.0,
            unix_ms: self.unix_ms,
            entries: self.entries.iter().map(message).collect(),
        }
        .encode_to_vec();
        let mut file = Vec::with_capacity(HEADER + body.len() + CHECKSUM);
        file.extend_from_slice(MAGIC);
        let version = if self.has_several_claims() { VERSION } else { FIRST_VERSION };
        file.extend_from_slice(&version.to_be_bytes());
        file.extend_from_slice(&(body.len() as u64).to_be_bytes());
        file.extend_from_slice(&body);
        let checksum = crc32fast::hash(&file);
        file.extend_from_slice(&checksum.to_be_bytes());
        file.into()
    }

    /// Decodes a backup.
    ///
    /// # Errors
    /// A [`FileError`].
    pub fn decode(file: &[u8]) -> Result<Self, FileError> {
        Self::decode_shared(Bytes::copy_from_slice(file))
    }

    /// Whether a backup may begin with these octets.
    ///
    /// # Errors
    /// If not.
    pub fn begins(octets: &[u8]) -> Result<(), FileError> {
        let shown = octets.len().min(MAGIC.len());
        if octets[..shown] == MAGIC[..shown] { Ok(()) } else { Err(FileError::NotABackup) }
    }

    /// As [`Backup::decode`]; the values of the entries are parts of `shared`, and not copied.
    ///
    /// # Errors
    /// A [`FileError`].
    pub fn decode_shared(shared: Bytes) -> Result<Self, FileError> {
        let file = &shared[..];
        let rest = file.strip_prefix(MAGIC).ok_or(FileError::NotABackup)?;
        let cut = || FileError::Length { has: file.len() as u64, should: (HEADER + CHECKSUM) as u64 };
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let version = u32::from_be_bytes(*version);
        if version == 0 || version > VERSION {
            return Err(FileError::Newer(version));
        }
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let should = u64::from_be_bytes(*length).saturating_add((HEADER + CHECKSUM) as u64);
        if should != file.len() as u64 {
            return Err(FileError::Length { has: file.len() as u64, should });
        }
        let (body, checksum) = rest.split_last_chunk::<CHECKSUM>().ok_or_else(cut)?;
        let (has, should) = (crc32fast::hash(&file[..file.len() - CHECKSUM]), u32::from_be_bytes(*checksum));
        if has != should {
            return Err(FileError::Checksum { has, should });
        }
        let body = stored::Backup::decode(shared.slice_ref(body))
            .map_err(|error| FileError::Content(error.to_string()))?;
        Self::try_from(body).map_err(|error| FileError::Content(error.to_string()))
    }
}

fn message(kept: &Kept) -> stored::BackupEntry {
    stored::BackupEntry { key: kept.key.clone(), value: kept.value.clone(), created: kept.created.0 }
}

impl TryFrom<stored::Backup> for Backup {
    type Error = convert::MessageError;

    fn try_from(message: stored::Backup) -> Result<Self, convert::MessageError> {
        let kept = |entry: stored::BackupEntry| Kept {
            key: entry.key,
            value: entry.value,
            created: Revision(entry.created),
        };
        Ok(Self {
            version: message.version,
            cluster: message.cluster,
            store: message.store,
            incarnation: convert::id("incarnation", &message.incarnation)?,
            revision: Revision(message.revision),
            unix_ms: message.unix_ms,
            entries: message.entries.into_iter().map(kept).collect(),
        })
    }
}
