//! Network namespaces, held by file descriptor (`network_namespaces(7)`).
//!
//! A thread enters a namespace with [`NetNs::run`], does there what only works inside (open a
//! socket, write a sysctl) and comes back. A socket stays in the namespace it was opened in.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// A network namespace that stays alive as long as this value.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

/// Why a namespace could not be opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is nothing at this path, or it may not be opened.
    #[error("open network namespace {path:?}: {source}")]
    Open {
        /// The path that was given.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// There is something, but no network namespace.
    #[error("{path:?} is no network namespace; give the path of one, such as /run/netns/NAME")]
    NotOne {
        /// The path that was given.
        path: PathBuf,
    },
    /// The namespace is the one that the caller is in itself.
    #[error(
        "plugin's netns and netns from CNI_NETNS should not be the same: {path:?} is the host's own; give the container's, or set CNI_NETNS_OVERRIDE=1"
    )]
    Own {
        /// The path that was given.
        path: PathBuf,
    },
    /// The kernel did not let the thread in, or back out.
    #[error("{action} a network namespace: {source}; this needs CAP_SYS_ADMIN")]
    Enter {
        /// What was tried.
        action: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
}

impl NetnsError {
    /// Whether there is no container's namespace at the path: nothing, something else (the empty
    /// file that a namespace was mounted on stays when it is unmounted), or the host's own. To
    /// remove a container from there is then done already.
    pub fn is_no_container(&self) -> bool {
        match self {
            // ESRCH: the process of a path such as /proc/PID/ns/net has just ended.
            NetnsError::Open { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                    || source.raw_os_error() == Some(Errno::ESRCH as i32)
            }
            NetnsError::NotOne { .. } | NetnsError::Own { .. } => true,
            NetnsError::Enter { .. } => false,
        }
    }
}

impl NetNs {
    /// Opens the namespace at a path such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// Nothing there, or something that is no network namespace.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let ns = Self::open_file(path)?;
        ns.first_visit(path, &Self::current()?, || ())?;
        Ok(ns)
    }

    /// Opens a container's namespace, which must not be the one that the calling thread is in: a
    /// path such as `/proc/PID/ns/net` leads to the host's own once its process is gone and the
    /// number taken by another. `own_allowed` is `CNI_NETNS_OVERRIDE`.
    ///
    /// # Errors
    /// As [`NetNs::open`], or [`NetnsError::Own`].
    pub fn open_container(path: &Path, own_allowed: bool) -> Result<Self, NetnsError> {
        Self::visit_container(path, &Self::current()?, own_allowed, || ()).map(|(ns, ())| ns)
    }

    /// As [`NetNs::open_container`] for a thread that is in `home`, and runs `work` inside.
    ///
    /// # Errors
    /// As [`NetNs::open_container`]; then `work` did not run.
    pub fn visit_container<T>(
        path: &Path,
        home: &NetNs,
        own_allowed: bool,
        work: impl FnOnce() -> T,
    ) -> Result<(Self, T), NetnsError> {
        let ns = Self::open_file(path)?;
        if !own_allowed && ns.same_as(home) {
            return Err(NetnsError::Own { path: path.into() });
        }
        let done = ns.first_visit(path, home, work)?;
        Ok((ns, done))
    }

    /// Opens what may be a network namespace.
    fn open_file(path: &Path) -> Result<Self, NetnsError> {
        let open = |source| NetnsError::Open { path: path.into(), source };
        // Only a regular file can be one; opening a FIFO or a device might wait, or act.
        if !path.metadata().map_err(open)?.is_file() {
            return Err(NetnsError::NotOne { path: path.into() });
        }
        let file = File::open(path).map_err(open)?;
        let kind = fstatfs(&file).map_err(|errno| open(errno.into()))?.filesystem_type();
        if kind == NSFS_MAGIC {
            Ok(NetNs { file })
        } else {
            Err(NetnsError::NotOne { path: path.into() })
        }
    }

    /// The other kinds of namespaces live on the same file system: only entering tells.
    fn first_visit<T>(
        &self,
        path: &Path,
        home: &NetNs,
        work: impl FnOnce() -> T,
    ) -> Result<T, NetnsError> {
        match self.run_from(home, work) {
            Err(NetnsError::Enter { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput =>
            {
                Err(NetnsError::NotOne { path: path.into() })
            }
            done => done,
        }
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        let path = Path::new("/proc/thread-self/ns/net");
        let file =
            File::open(path).map_err(|source| NetnsError::Open { path: path.into(), source })?;
        Ok(NetNs { file })
    }

    /// Makes a new namespace without a name: it dies with this value and with whatever else holds
    /// it, and leaves nothing to clean up.
    ///
    /// # Errors
    /// The caller lacks `CAP_SYS_ADMIN`.
    pub fn create() -> Result<Self, NetnsError> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(enter("make"))?;
            Self::current()
        };
        // A thread of its own, since a thread cannot be in two namespaces.
        let failed =
            || NetnsError::Enter { action: "make", source: io::Error::other("the thread died") };
        std::thread::spawn(make).join().unwrap_or_else(|_| Err(failed()))
    }

    /// Takes a lock that all processes can see that have opened the namespace, beside others that take
    /// it so; `flock(2)` on its file. It is held until the value ends, or the process.
    ///
    /// # Errors
    /// The kernel has no more file descriptors or locks.
    pub fn lock_shared(&self) -> io::Result<NetNsLock> {
        self.lock(File::lock_shared)
    }

    /// As [`NetNs::lock_shared`], but alone.
    ///
    /// # Errors
    /// As [`NetNs::lock_shared`].
    pub fn lock_exclusive(&self) -> io::Result<NetNsLock> {
        self.lock(File::lock)
    }

    fn lock(&self, take: impl Fn(&File) -> io::Result<()>) -> io::Result<NetNsLock> {
        let file = self.file.try_clone()?;
        loop {
            match take(&file) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                taken => return taken.map(|()| NetNsLock { file }),
            }
        }
    }

    /// Whether both are the same namespace.
    pub fn same_as(&self, other: &NetNs) -> bool {
        match (fstat(&self.file), fstat(&other.file)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// A path by which other processes of the same PID namespace can open this namespace while
    /// this value lives: what a runtime passes as `CNI_NETNS`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` with the calling thread inside the namespace, then brings the thread back.
    ///
    /// # Errors
    /// The thread could not enter, and `work` did not run; or it could not return, and is still
    /// inside: sockets opened before then still reach the namespace they were opened in.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        self.run_from(&Self::current()?, work)
    }

    /// As [`NetNs::run`] for a thread that is in `home`. To open its own namespace costs a thread
    /// more than the whole visit.
    ///
    /// # Errors
    /// As [`NetNs::run`].
    pub fn run_from<T>(&self, home: &NetNs, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let visit = Visit { home: Some(home) };
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(enter("enter"))?;
        let done = work();
        visit.end().map(|()| done)
    }
}

/// A lock on a namespace; it ends with the value.
#[derive(Debug)]
pub struct NetNsLock {
    file: File,
}

impl Drop for NetNsLock {
    fn drop(&mut self) {
        // The namespace's own file may stay open, and would keep the lock.
        let _ = self.file.unlock();
    }
}

/// A thread's stay in another namespace; it ends with the value, even when the work panics.
struct Visit<'a> {
    home: Option<&'a NetNs>,
}

impl Visit<'_> {
    fn end(mut self) -> Result<(), NetnsError> {
        self.go_home()
    }

    fn go_home(&mut self) -> Result<(), NetnsError> {
        let Some(home) = self.home.take() else {
            return Ok(());
        };
        setns(&home.file, CloneFlags::CLONE_NEWNET).map_err(enter("return from"))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // Only a panic comes here with a way still to go; it is reported already.
        let _ = self.go_home();
    }
}

fn enter(action: &'static str) -> impl Fn(Errno) -> NetnsError {
    move |errno| NetnsError::Enter { action, source: errno.into() }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_ends_where_it_began() {
        let home = NetNs::current().unwrap();
        let other = NetNs::create().unwrap();
        let inside = other.run(|| NetNs::current().unwrap()).unwrap();
        assert!(inside.same_as(&other));
        assert!(!inside.same_as(&home));
        assert!(NetNs::current().unwrap().same_as(&home));
    }

    #[test]
    fn a_lock_ends_with_its_value() {
        let ns = NetNs::create().unwrap();
        let other = NetNs::open(&ns.path()).unwrap();
        let beside = (ns.lock_shared().unwrap(), other.lock_shared().unwrap());
        assert!(matches!(other.file.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
        drop(beside);
        let _alone = other.lock_exclusive().unwrap();
        assert!(matches!(ns.file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)));
    }

    #[test]
    fn a_panic_inside_brings_the_thread_back_too() {
        let home = NetNs::current().unwrap();
        let other = NetNs::create().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other.run(|| std::panic::resume_unwind(Box::new(())))
        }));
        assert!(panicked.is_err());
        assert!(NetNs::current().unwrap().same_as(&home));
    }

    #[test]
    fn the_path_opens_the_same_namespace_and_goes_with_it() {
        let ns = NetNs::create().unwrap();
        let path = ns.path();
        assert!(NetNs::open(&path).unwrap().same_as(&ns));
        drop(ns);
        assert!(NetNs::open(&path).unwrap_err().is_no_container());
    }

    #[test]
    fn the_own_namespace_is_no_containers() {
        let own = Path::new("/proc/thread-self/ns/net");
        assert!(matches!(NetNs::open_container(own, false), Err(NetnsError::Own { .. })));
        assert!(NetNs::open_container(own, true).is_ok());
        let other = NetNs::create().unwrap();
        assert!(NetNs::open_container(&other.path(), false).is_ok());
    }

    #[test]
    fn what_is_no_network_namespace_is_refused() {
        let file = std::env::temp_dir().join(format!("cbr0-netns-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let refused = NetNs::open(&file);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(refused, Err(NetnsError::NotOne { .. })), "{refused:?}");
        for path in ["/proc/self/ns/mnt", "/dev/null", "/"] {
            assert!(
                matches!(NetNs::open(Path::new(path)), Err(NetnsError::NotOne { .. })),
                "{path}"
            );
        }
        assert!(NetNs::open(Path::new("/nonexistent")).unwrap_err().is_no_container());
    }
}
