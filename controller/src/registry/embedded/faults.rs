//! Failures of the disk, for tests.

use std::{
    io,
    sync::{Arc, Mutex},
};

/// Makes writes, syncs and changes of length of a file fail on request, and counts them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// How many calls succeed before the first failure.
    left: Option<u32>,
    /// How many calls fail after that.
    failing: u32,
    /// Writes since the last sync.
    unsynced: u32,
    syncs: u32,
}

impl Faults {
    /// Lets `left` calls succeed, then `failing` calls fail.
    pub fn set(&self, left: u32, failing: u32) {
        let mut disk = self.0.lock().unwrap();
        (disk.left, disk.failing) = (Some(left), failing);
    }

    /// Lets all calls succeed again. Returns whether any call failed.
    pub fn heal(&self) -> bool {
        self.0.lock().unwrap().left.take() == Some(0)
    }

    /// How many writes there were since the last sync.
    pub fn unsynced(&self) -> u32 {
        self.0.lock().unwrap().unsynced
    }

    /// How often the file was synced.
    pub fn synced(&self) -> u32 {
        self.0.lock().unwrap().syncs
    }

    /// A change of length. It may follow the sync of a commit: the part that is cut off is no longer in use.
    pub fn resize(&self) -> io::Result<()> {
        self.0.lock().unwrap().call(|_| {})
    }

    /// A write.
    pub fn write(&self) -> io::Result<()> {
        self.0.lock().unwrap().call(|disk| disk.unsynced += 1)
    }

    /// A sync, before it is done.
    pub fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().call(|disk| {
            disk.unsynced = 0;
            disk.syncs += 1;
        })
    }
}

impl Disk {
    fn call(&mut self, count: impl FnOnce(&mut Self)) -> io::Result<()> {
        match self.left {
            Some(0) if self.failing > 0 => {
                self.failing -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            Some(left) => self.left = Some(left.saturating_sub(1)),
            None => {}
        }
        count(self);
        Ok(())
    }
}
