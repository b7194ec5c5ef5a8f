#!/bin/sh
# What a node has beside its programs, made before the first of them starts.
set -eu

# A kubelet sets these, which are not of any namespace: it finds them as it wants them, in files.
mkdir /run/settings
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    name=${setting%=*}
    file=/run/settings/$(printf '%s' "$name" | tr / .)
    printf '%s\n' "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/$name"
done
