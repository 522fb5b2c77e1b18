//! A read-only view of a file: writes of redb during an integrity check stay in memory.
//!
//! A check repairs what it can, and needs free pages for that. A damaged file must stay unchanged for later analysis, and a
//! full disk must not prevent a valid file from being opened.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// The size of the pages that writes are kept in, in octets.
const PAGE: u64 = 4096;

type Page = Box<[u8]>;

/// A file, and the writes over it.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// The file's own octets are valid up to here: the overlay was never shorter.
    of_file: u64,
    /// By page number.
    pages: HashMap<u64, Page>,
}

impl Overlay {
    /// Wraps a file that is open for reading.
    ///
    /// # Errors
    /// If its length cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, written: Mutex::new(Written { len, of_file: len, pages: HashMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current content of a page; zero where nothing was written.
    fn page(&self, written: &Written, number: u64) -> io::Result<Page> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize].into_boxed_slice();
        let there = written.of_file.saturating_sub(number * PAGE).min(PAGE);
        self.file.read_exact_at(&mut page[..there as usize], number * PAGE)?;
        Ok(page)
    }
}

/// Splits `length` octets from `offset` at page boundaries: page number, offset in the page, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let first = offset / PAGE;
    (first..end.div_ceil(PAGE)).map(move |number| {
        let from = offset.max(number * PAGE);
        let to = end.min((number + 1) * PAGE);
        (number, (from - number * PAGE) as usize, (to - from) as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = 0;
        for (number, from, length) in parts(offset, out.len()) {
            let page = self.page(&written, number)?;
            out[at..at + length].copy_from_slice(&page[from..from + length]);
            at += length;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        if len < written.len && !len.is_multiple_of(PAGE) {
            // The part that is cut off is zero if the file grows again.
            let mut page = self.page(&written, len / PAGE)?;
            page[(len % PAGE) as usize..].fill(0);
            written.pages.insert(len / PAGE, page);
        }
        written.pages.retain(|number, _| number * PAGE < len);
        written.of_file = written.of_file.min(len);
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let mut at = 0;
        for (number, from, length) in parts(offset, octets.len()) {
            let mut page = self.page(&written, number)?;
            page[from..from + length].copy_from_slice(&octets[at..at + length]);
            written.pages.insert(number, page);
            at += length;
        }
        written.len = written.len.max(offset + octets.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Resize(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0u64..20_000, prop::collection::vec(any::<u8>(), 1..9000));
        let step = prop_oneof![
            write.prop_map(|(at, what)| Step::Write(at, what)),
            (0u64..30_000).prop_map(Step::Resize)
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #[test]
        fn reads_match_a_file_and_the_file_stays_unchanged(
            before in prop::collection::vec(any::<u8>(), 0..20_000), steps in steps()
        ) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&before).unwrap();
            let overlay = Overlay::new(file.try_clone().unwrap()).unwrap();
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Resize(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                    Step::Write(at, what) => {
                        let end = at as usize + what.len();
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].copy_from_slice(&what);
                        overlay.write(at, &what).unwrap();
                    }
                }
                let mut read = vec![7; model.len()];
                overlay.read(0, &mut read).unwrap();
                prop_assert_eq!(overlay.len().unwrap() as usize, model.len());
                prop_assert!(read == model);
            }
            let mut left = vec![0; before.len()];
            file.read_exact_at(&mut left, 0).unwrap();
            prop_assert!(left == before && file.metadata().unwrap().len() as usize == before.len());
        }
    }
}
