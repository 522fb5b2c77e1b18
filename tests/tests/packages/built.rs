//! The packages: of the programs of this build, and an earlier version of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use sextant_tests::{Build, bin};
use tempfile::TempDir;

pub const NAMES: [&str; 3] = ["sextant", "sextant-agent", "sextant-controller"];
/// The version of the earlier packages. Present ones have the time of their commit.
const EARLIER: &str = "0.0.1";

/// A directory with `NAME.deb` for each package.
pub struct Packages {
    dir: TempDir,
}

impl Packages {
    /// As `deploy/package` builds them, with the programs that the tests have built. They are built once.
    pub fn present() -> &'static Self {
        static PRESENT: OnceLock<Packages> = OnceLock::new();
        PRESENT.get_or_init(|| {
            let packages = Self { dir: tempfile::tempdir().unwrap() };
            let programs = bin("sextant").unwrap().parent().unwrap().to_owned();
            run(Command::new(script())
                .arg("--programs")
                .arg(programs)
                .arg(packages.dir.path())
                .env("DPKG_DEB_COMPRESSOR_LEVEL", "0"));
            for entry in fs::read_dir(packages.dir.path()).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                let package = name.split('_').next().unwrap();
                fs::rename(entry.path(), packages.path(package)).unwrap();
            }
            packages
        })
    }

    /// The same with the daemons of the earlier version that `tests/previous` builds.
    pub fn earlier() -> &'static Self {
        static FORMER: OnceLock<Packages> = OnceLock::new();
        FORMER.get_or_init(|| {
            let packages = Self { dir: tempfile::tempdir().unwrap() };
            for name in NAMES {
                let tree = packages.dir.path().join("tree");
                run(Command::new("dpkg-deb").arg("--raw-extract").arg(Self::present().path(name)).arg(&tree));
                let control = tree.join("DEBIAN/control");
                let text = fs::read_to_string(&control).unwrap();
                let lines = text.lines().map(|line| match line.strip_prefix("Version: ") {
                    Some(_) => format!("Version: {EARLIER}\n"),
                    None => format!("{line}\n"),
                });
                fs::write(&control, lines.collect::<String>()).unwrap();
                fs::copy(Build::Previous.bin(name).unwrap(), tree.join("usr/bin").join(name)).unwrap();
                run(Command::new("dpkg-deb").args(["-Znone", "--build"]).arg(&tree).arg(packages.path(name)));
                fs::remove_dir_all(&tree).unwrap();
            }
            packages
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, package: &str) -> PathBuf {
        self.dir.path().join(format!("{package}.deb"))
    }

    /// A field of a package's control file.
    pub fn field(&self, package: &str, field: &str) -> String {
        run(Command::new("dpkg-deb").arg("--field").arg(self.path(package)).arg(field)).trim().to_owned()
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package")
}

/// The output of a command, which must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
