//! A small disk that a test can fill.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Lab;

/// A tmpfs of a few MiB in the lab's directory.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn mount(lab: &Lab, mebibytes: u32) -> anyhow::Result<Self> {
        let path = lab.dir().join("disk");
        fs::create_dir(&path)?;
        let options = format!("size={mebibytes}m,mode=700");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(&*options))
            .context("mounting a small disk")?;
        Ok(Self { path })
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Uses all free space.
    ///
    /// # Errors
    /// If the filler file cannot be created.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = fs::File::options().append(true).create(true).open(self.filler())?;
        while filler.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    /// Frees the space that [`SmallDisk::fill`] used.
    ///
    /// # Errors
    /// If the filler file cannot be deleted.
    pub fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _detached = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
