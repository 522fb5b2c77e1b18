//! Cgroups of a lab: they have the namespace's name, by which the reaper finds them.

use super::Namespace;

/// Enters a cgroup of its own in each hierarchy that systemd uses, and goes on as the command.
const ENTER: &str = r#"
    name=$1; shift
    for root in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ -e "$root/cgroup.procs" ] || continue
        mkdir -p "$root/$name" && echo $$ >"$root/$name/cgroup.procs" || exit
    done
    exec "$@""#;

/// The words before a command that is to run in a cgroup of its own.
pub fn in_own(namespace: &Namespace) -> [String; 5] {
    ["sh", "-c", ENTER, "sh", namespace.name()].map(str::to_owned)
}
