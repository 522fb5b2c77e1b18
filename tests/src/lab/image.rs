//! An image for containers, as an archive of a root directory with busybox: no registry is asked.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// The programs in it, all of busybox.
const PROGRAMS: [&str; 8] = ["sh", "sleep", "ip", "ping", "nc", "httpd", "printf", "echo"];

/// Makes the archive in this directory.
///
/// # Errors
/// If busybox or tar is missing, or the directory cannot be written.
pub fn archive(dir: &Path) -> anyhow::Result<PathBuf> {
    let (root, archive) = (dir.join("image"), dir.join("image.tar"));
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox; install busybox-static")?;
    for program in PROGRAMS {
        symlink("busybox", root.join("bin").join(program))?;
    }
    let who = root.join("www/cgi-bin/who");
    fs::create_dir_all(root.join("www/cgi-bin"))?;
    fs::write(&who, "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho \"from $REMOTE_ADDR\"\n")?;
    fs::set_permissions(&who, fs::Permissions::from_mode(0o755))?;
    let done = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").output()?;
    ensure!(done.status.success(), "tar: {}", String::from_utf8_lossy(&done.stderr));
    Ok(archive)
}
