//! A file that is only read: what redb writes while it checks the file stays in memory.
//!
//! A check repairs what it can, and needs free pages for that. The file itself must stay as it was found, for whoever looks
//! at a damaged one, and a full disk must not keep a good one from being opened.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// What is kept of a write, in octets: whole pages.
const PAGE: u64 = 4096;

type Page = Box<[u8]>;

/// A file, and what was written over it.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// The file's own octets count up to here: it was never shorter.
    of_file: u64,
    /// By number.
    pages: HashMap<u64, Page>,
}

impl Overlay {
    /// Over a file that is open for reading.
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

    /// A page as it is now; zero where nothing was written.
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

/// The parts of the octets from `offset` on that lie in one page each: its number, where they begin in it, and how many.
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
            // What is cut off is zero if the file grows again.
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
        fn it_reads_as_a_file_would_and_leaves_the_file_alone(
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
