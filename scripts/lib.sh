# shellcheck shell=bash disable=SC2034  # the scripts that source this use its variables
# Sourced by the scripts beside it: where things are, and how what is missing gets into the cache.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
cache=${CBR0_CACHE:-$root/target/cache}
# Binaries ready to run, and the parts for tests: the same folders whatever they were built with.
dist=$target/dist
parts=$cache/parts
mkdir -p "$cache/logs" "$parts"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

# quietly NAME WORDS COMMAND...: runs it with a line of words; its output only if it fails.
quietly() {
    local log=$cache/logs/$1.log words=$2 start=$SECONDS
    shift 2
    printf '%s … ' "$words" >&2
    if "$@" >"$log" 2>&1; then
        say "$((SECONDS - start)) s"
    else
        say "failed after $((SECONDS - start)) s"
        tail -n 60 "$log" >&2
        say "(all of it: $log)"
        return 1
    fi
}

# from_debian PACKAGE...: unpacks Debian packages into the cache and prints the folder. Nothing is
# installed: an installation may start services or leave files in the machine.
from_debian() {
    local into=$cache/debian package
    for package; do
        [ ! -e "$into/.$package" ] || continue
        mkdir -p "$into"
        local fetched
        fetched=$(mktemp -d "$cache/debian.XXXXXX")
        (
            cd "$fetched"
            # _apt may not write there, which apt warns about and survives.
            apt-get download "$package" || { apt-get update && apt-get download "$package"; }
        ) >&2 || return 1
        dpkg -x "$fetched"/*.deb "$into" || return 1
        rm -r "$fetched"
        touch "$into/.$package"
    done
    printf '%s\n' "$into"
}
