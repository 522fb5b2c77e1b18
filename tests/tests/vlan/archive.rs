//! The archive that a kernel unpacks as its first root (Documentation/driver-api/early-userspace/buffer-format.rst in Linux).

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    octets: Vec<u8>,
    count: u32,
    directories: std::collections::BTreeSet<String>,
}

impl Archive {
    /// A directory, and those above it.
    pub(super) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// A file that may be executed.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.entry(path.trim_start_matches('/'), PROGRAM, (0, 0), content);
    }

    /// A device of characters.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path.trim_start_matches('/'), DEVICE, number, &[]);
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.octets
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.count += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, size, device, its own device, name, checksum.
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.octets.extend(b"070701");
        fields.iter().for_each(|field| self.octets.extend(format!("{field:08x}").bytes()));
        self.octets.extend(name.bytes().chain([0]));
        self.pad();
        self.octets.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[test]
fn an_archive_is_aligned() {
    let mut archive = Archive::default();
    archive.file("/a/b", b"12345");
    let octets = archive.finish();
    assert_eq!(octets.len() % 4, 0);
    let names = ["a\0", "a/b\0", "TRAILER!!!\0"];
    let found = |name: &str| octets.windows(name.len()).position(|it| it == name.as_bytes()).unwrap();
    assert!(names.map(found).is_sorted());
    assert!(octets.starts_with(b"07070100000001000041ed"));
}
