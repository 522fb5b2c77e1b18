//! The version that Sextant's programs print, with the commit that they were built from.

/// Like `0.1.0 (commit 0123456789ab)`. After the commit, `, changed` says that the sources differed from it. A build for development, and one of sources
/// without their repository, has the version alone, unless `SEXTANT_COMMIT` names the commit.
pub const VERSION: &str = env!("SEXTANT_VERSION");

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_packages() {
        let version = super::VERSION;
        assert!(version.split(' ').next() == Some(env!("CARGO_PKG_VERSION")), "{version}");
    }
}
