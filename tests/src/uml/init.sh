# The first process inside user-mode Linux, run by busybox. The root is the machine's, read-only; what
# is written goes to /run, or to /mnt for uml.rs to read.
# shellcheck shell=sh
debian=/mnt/debian
busybox=$debian/bin/busybox

$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t tmpfs tmpfs /run
$busybox mount -t hostfs -o /mnt hostfs /mnt

# The kernel loads what it misses by itself, as any Debian's does. busybox looks for modules in
# /lib/modules, which the machine may have for its own kernel, or not at all.
cat >/run/modprobe <<EOF
#!$busybox sh
exec $busybox chroot $debian /bin/busybox modprobe "\$@"
EOF
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
# These two nobody asks the kernel for: Debian's other kernels have IPv6 built in, and systemd makes
# /dev/net/tun.
/run/modprobe -a ipv6 tun

mkdir /run/tmp
export TMPDIR=/run/tmp CBR0_SKIP_LOG=/mnt/skipped CBR0_INSIDE_UML=1
# The environment, the folder, and the program with its arguments as "$@".
# shellcheck source=/dev/null
. /mnt/call
# Behind "&", for the shell's own words on how it ended ("Aborted") not to get into the output.
"$@" >/mnt/output 2>/mnt/errors </dev/null &
wait $!
echo $? >/mnt/status
$busybox poweroff -f
