//! Sysctls under `/proc/sys`. Those under `net` belong to the network namespace of the calling thread.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

use sextant_proto::link_name_octets;

use super::super::KernelError;

/// The value without white space around it; `None` if there is no such sysctl.
pub fn read(path: &str) -> Result<Option<String>, KernelError> {
    match fs::read_to_string(file(path)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KernelError::Sysctl { path: path.to_owned(), source }),
    }
}

/// Sets a sysctl. A missing one is an error.
pub fn write(path: &str, value: &str) -> Result<(), KernelError> {
    use io::Write as _;
    fs::OpenOptions::new()
        .write(true)
        .open(file(path))
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| KernelError::SysctlNotSet {
            path: path.to_owned(),
            value: value.to_owned(),
            source,
        })
}

/// The path has names of interfaces as they are shown.
fn file(path: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(OsString::from_vec(link_name_octets(path)))
}
