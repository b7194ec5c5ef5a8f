//! Who may look for the bridge, and who may remove it: a lock of the host.
//!
//! An ADD that has found the bridge needs it until its port is there; from then on the bridge is
//! not empty. The lock is on the file of the host's network namespace: there is one for each, and
//! nothing to make or clean up. The kernel releases it with the file, however the process ends.

use std::fs::File;
use std::io;

use plugin_interface::{Error, Result};

const HOST: &str = "/proc/thread-self/ns/net";

/// For an ADD: the bridge will not be removed while the file is open. Many may have it at once.
pub(crate) fn shared() -> Result<File> {
    take(File::lock_shared)
}

/// For who removes the bridge: nobody makes a port while the file is open.
pub(crate) fn exclusive() -> Result<File> {
    take(File::lock)
}

fn take(lock: impl Fn(&File) -> io::Result<()>) -> Result<File> {
    let failed = |source| Error::Lock { what: HOST.into(), source };
    let file = File::open(HOST).map_err(failed)?;
    loop {
        match lock(&file) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(|()| file).map_err(failed),
        }
    }
}
