#!/bin/sh
# init.sh OVERLAY CGROUPS: the first process of a machine, in namespaces that are its alone.
#
# Prints its number outside once all is mounted.
set -eu
overlay=$1 groups=$2

# Of the processes outside: those inside are not mounted yet.
read -r number _ </proc/self/stat

mount --make-rprivate /
mount -t tmpfs machine /run

# Runtimes find their own cgroup as the root of each hierarchy.
mkdir /run/cgroup
mount -t tmpfs cgroup /run/cgroup
for group in $groups; do
    hierarchy=/run/cgroup
    if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
        below=${group#/sys/fs/cgroup/}
        hierarchy=$hierarchy/${below%%/*}
        mkdir "$hierarchy"
    fi
    mount --bind "$group" "$hierarchy"
done
mount --rbind /run/cgroup /sys/fs/cgroup
umount --recursive /run/cgroup

mkdir /run/layers
for folder in usr etc var opt; do
    lower=/$folder layers=/run/layers/$folder
    if [ -d "$overlay/$folder" ]; then lower=$overlay/$folder:$lower; fi
    mkdir -p "$layers/upper" "$layers/work"
    mount -t overlay -o "lowerdir=$lower,upperdir=$layers/upper,workdir=$layers/work" \
        machine "/$folder"
done
# An overlay cannot lie on another one, and the machine's own data must not be seen.
for folder in var/lib/cni var/lib/containerd var/lib/containers etc/cni opt/cni; do
    mkdir -p "/$folder"
    mount -t tmpfs machine "/$folder"
done
mkdir -p /etc/cni/net.d /opt/cni/bin
mount -t proc proc /proc

# Waits as a shell waits for a job: for every child, so that orphans are reaped too.
exec 3<&0
cat <&3 >/dev/null &
printf '%s\n' "$number"
exec >/dev/null
wait $!
