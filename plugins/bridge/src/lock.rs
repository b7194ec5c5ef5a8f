//! Who may look for the bridge, and who may remove it: a lock of the host.
//!
//! An ADD that has found the bridge needs it until its port is there; from then on the bridge is
//! not empty. The lock is on the file of the host's network namespace: there is one for each, and
//! nothing to make or clean up. The kernel releases it when the process ends, however it does.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use plugin_interface::{Error, Result};

const HOST: &str = "/proc/thread-self/ns/net";

/// The lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: Flock<File>,
}

/// For an ADD: the bridge will not be removed meanwhile. Many may have it at once.
pub(crate) fn shared() -> Result<Lock> {
    take(FlockArg::LockShared)
}

/// For who removes the bridge: nobody makes a port meanwhile.
pub(crate) fn exclusive() -> Result<Lock> {
    take(FlockArg::LockExclusive)
}

fn take(kind: FlockArg) -> Result<Lock> {
    let failed = |source| Error::Lock { what: HOST.into(), source };
    let mut file = File::open(Path::new(HOST)).map_err(failed)?;
    loop {
        match Flock::lock(file, kind) {
            Ok(_held) => return Ok(Lock { _held }),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    }
}
