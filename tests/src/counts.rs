//! What a call asked of the kernel, counted in the words of `strace`.

use crate::strace::{names_a_file, syscall_name};

/// How often a call did what costs, from when it had begun to read its input: before that, the
/// program is loaded, which is the linker's concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams sent by netlink; some carry several messages.
    pub requests: usize,
    /// System calls that name a file.
    pub files: usize,
    /// Processes that lived: the call's own, and those that it started.
    pub processes: usize,
    /// Programs executed, besides the one that was called.
    pub programs: usize,
    /// System calls, all.
    pub syscalls: usize,
}

impl Counts {
    /// Reads what `strace` told of a call.
    pub fn of(log: &str) -> Counts {
        let calls: Vec<_> = log.lines().skip_while(|line| !line.contains(" read(0, ")).collect();
        // One that the kernel starts again, as it does with settings while somebody else has the
        // lock of all links, is one.
        let done = calls.iter().filter(|line| !line.ends_with("(To be restarted)"));
        let named: Vec<_> = done.filter_map(|line| Some((syscall_name(line)?, *line))).collect();
        let count = |is_one: &dyn Fn(&str, &str) -> bool| {
            named.iter().filter(|(name, line)| is_one(name, line)).count()
        };
        let started = |name: &str| ["clone", "clone3", "fork", "vfork"].contains(&name);
        Counts {
            requests: count(&|name, _| ["sendto", "sendmsg"].contains(&name)),
            // Some C libraries ask for an open file by an empty name.
            files: count(&|name, line| names_a_file(name) && !line.contains("AT_EMPTY_PATH")),
            processes: 1 + count(&|name, line| started(name) && !line.contains(" = -1 ")),
            programs: count(&|name, _| name == "execve"),
            syscalls: named.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_counted_once_and_only_behind_the_input() {
        let log = "\
7 execve(\"/plugin\", [\"/plugin\"], 0x7ffd /* 5 vars */) = 0
7 open(\"/lib/libc.so\", O_RDONLY) = 3
7 read(0, \"{}\", 8192) = 2
7 open(\"/proc/sys/x\", O_RDONLY) = 3
7 statx(3, \"\", AT_STATX_SYNC_AS_STAT|AT_EMPTY_PATH, STATX_ALL, {}) = 0
7 write(3, \"1\", 1) = ? ERESTARTNOINTR (To be restarted)
7 write(3, \"1\", 1) = 1
7 fork() = 8
8 sendmsg(0, {}, 0 <unfinished ...>
7 sendto(4, \"\", 20, 0, NULL, 0) = 20
8 <... sendmsg resumed>) = 20
8 execve(\"/other\", [\"/other\"], 0x7ffd /* 5 vars */) = 0
7 +++ exited with 0 +++
";
        let expected = Counts { requests: 2, files: 1, processes: 2, programs: 1, syscalls: 8 };
        assert_eq!(Counts::of(log), expected);
    }
}
