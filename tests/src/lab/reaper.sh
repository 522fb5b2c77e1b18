# Removes a lab at the end of standard input; after a line "keep", it ends without doing so. Arguments: lab id, lab directory.
# Runs in a session of its own, so that a signal to the lab owner's group does not kill it.
trap '' HUP INT TERM PIPE
id=$1 dir=$2
IFS= read -r word
[ "$word" = keep ] && exit 0

# Processes in the lab's namespaces, and processes that the lab started and that may not have entered their namespace yet.
pids() {
    stat -Lc '%i %n' /run/netns/sx"$id"-* /proc/[0-9]*/ns/net 2>/dev/null |
        awk '$2 ~ /^\/run\// { lab[$1] = 1; next } lab[$1] { split($2, part, "/"); print part[3] }'
    grep -lzsxF "SX_LAB=$id" /proc/[0-9]*/environ | cut -d/ -f3
}

tries=0
while found=$(pids) && [ -n "$found" ] && [ $((tries += 1)) -le 250 ]; do
    # shellcheck disable=SC2086 # one word each
    kill -KILL $found 2>/dev/null
    sleep 0.01
done
for namespace in /run/netns/sx"$id"-*; do
    [ -e "$namespace" ] && echo "netns delete ${namespace##*/}"
done | ip -force -batch - 2>/dev/null
# Cgroups and files of systemd-nspawn and the systemd in it. A process leaves its cgroup later than its namespace.
tries=0
while groups=$(find /sys/fs/cgroup -maxdepth 2 -name "sx$id-*" 2>/dev/null) && [ -n "$groups" ] && [ $((tries += 1)) -le 100 ]; do
    # shellcheck disable=SC2086 # one word each
    find $groups -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.01
done
rm -rf /run/systemd/nspawn/*/sx"$id"-*
awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
rm -rf --one-file-system "$dir"
