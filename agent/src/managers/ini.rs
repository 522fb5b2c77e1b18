//! Settings files as systemd reads them (systemd.syntax(7)): a main file, and drop-ins that override it.

use std::collections::BTreeMap;

use super::Root;

/// Where such files are; a file in an earlier directory replaces one of the same name in a later one.
const DIRECTORIES: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

/// The assignments of all files, in their order.
#[derive(Debug, Default)]
pub(super) struct Ini(Vec<Assignment>);

#[derive(Debug)]
struct Assignment {
    section: String,
    key: String,
    value: String,
    file: String,
}

impl Ini {
    /// The file `name` of the first directory that has it, then its drop-ins.
    pub(super) fn merged(root: Root<'_>, name: &str) -> Self {
        let main = DIRECTORIES.iter().map(|dir| format!("{dir}/{name}"));
        let mut ini = Self::default();
        if let Some((path, text)) = main.into_iter().find_map(|path| Some((path.clone(), root.read(&path)?)))
        {
            ini.add(&path, &text);
        }
        ini.drop_ins(root, name);
        ini
    }

    /// The file at `path`, then the drop-ins for `name`.
    pub(super) fn with_drop_ins(root: Root<'_>, path: &str, name: &str) -> Self {
        let mut ini = Self::default();
        ini.add(path, &root.read(path).unwrap_or_default());
        ini.drop_ins(root, name);
        ini
    }

    /// NetworkManager's own file, and its drop-ins (NetworkManager.conf(5)).
    pub(super) fn of_network_manager(root: Root<'_>) -> Self {
        let main = "/etc/NetworkManager/NetworkManager.conf";
        let mut ini = Self::default();
        ini.add(main, &root.read(main).unwrap_or_default());
        ini.of_directories(root, "NetworkManager/conf.d");
        ini
    }

    fn drop_ins(&mut self, root: Root<'_>, name: &str) {
        self.of_directories(root, &format!("{name}.d"));
    }

    fn of_directories(&mut self, root: Root<'_>, name: &str) {
        let mut paths = BTreeMap::new();
        for dir in DIRECTORIES.iter().map(|dir| format!("{dir}/{name}")) {
            for file in root.list(&dir).into_iter().filter(|file| file.ends_with(".conf")) {
                paths.entry(file.clone()).or_insert(format!("{dir}/{file}"));
            }
        }
        for path in paths.values() {
            self.add(path, &root.read(path).unwrap_or_default());
        }
    }

    fn add(&mut self, file: &str, text: &str) {
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            } else if let Some((key, value)) = line.split_once('=') {
                let [section, key, value, file] =
                    [section, key.trim(), value.trim(), file].map(str::to_owned);
                self.0.push(Assignment { section, key, value, file });
            }
        }
    }

    /// The values of a list: `key=` begins it anew, `key+=` adds to it.
    pub(super) fn list(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for it in self.0.iter().filter(|it| it.section == section && it.key.trim_end_matches('+') == key) {
            if it.key == key {
                values.clear();
            }
            values.push(it.value.as_str());
        }
        values
    }

    /// The last value of a key, with its file.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<(&str, &str)> {
        let of_key = |it: &&Assignment| it.section == section && it.key == key && !it.value.is_empty();
        self.0.iter().rev().find(of_key).map(|it| (it.value.as_str(), it.file.as_str()))
    }
}

/// Whether systemd takes the value for false.
pub(super) fn is_no(value: &str) -> bool {
    ["no", "n", "false", "f", "off", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}
