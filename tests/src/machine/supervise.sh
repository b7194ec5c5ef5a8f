#!/bin/sh
# supervise.sh INIT OVERLAY: a machine from its first process to its last, and then its cgroups.
#
# INIT is the text of the script that its first process runs, OVERLAY a folder to lay over the root.
# The machine ends at the end of the standard input: with whoever holds the other end, however that
# ends.
set -u
trap '' HUP INT TERM

# Below the cgroup that this process has in each hierarchy. What the runtimes make is below that, and
# stays when its processes have ended.
name=cbr0-machine-$$
groups=$(while IFS=: read -r _ controllers path; do
    for mounted in "/sys/fs/cgroup/${controllers#name=}" /sys/fs/cgroup/unified /sys/fs/cgroup; do
        if [ -e "$mounted/cgroup.procs" ]; then
            printf '%s\n' "${mounted%/}${path%/}/$name"
            break
        fi
    done
done </proc/self/cgroup)

for group in $groups; do
    mkdir "$group" || exit
    for key in cpuset.cpus cpuset.mems; do
        if [ -e "$group/$key" ]; then cat "$group/../$key" >"$group/$key"; fi
    done
done

# shellcheck disable=SC2016  # for the shell that is started
sh -c 'for group in $1; do echo $$ >"$group/cgroup.procs" || exit; done
    exec unshare --cgroup --mount --net --pid --fork --kill-child -- \
    sh -c "$2" init "$3" "$1"' \
    sh "$groups" "$1" "$2"
status=$?

for group in $groups; do find "$group" -depth -type d -exec rmdir {} \;; done
exit "$status"
