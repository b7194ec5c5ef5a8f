//! What the daemon may do: it keeps the one capability that it needs and gives up all others, for
//! itself and for whatever it might ever run.
//!
//! `CAP_NET_ADMIN` is for routes, nf_tables and the settings under `/proc/sys/net`. Files are those of
//! the daemon's user: root, most often, who without `CAP_DAC_OVERRIDE` may no longer read or write
//! what belongs to others and is closed to them.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use tracing::{debug, warn};

const NEEDED: Capability = Capability::CAP_NET_ADMIN;

/// The capabilities could not be read or given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up the capabilities that are not needed: {0}; is this kernel restricted?")]
pub struct PrivilegeError(#[from] CapsError);

/// Gives up all capabilities but the one that is needed, in all sets. Only the calling thread's: it
/// must be the only one yet.
///
/// # Errors
/// The kernel refuses.
pub fn keep_what_is_needed() -> Result<(), PrivilegeError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    if !permitted.contains(&NEEDED) {
        warn!(
            "without {NEEDED} no route can be made: run as root, or give it by the service manager"
        );
    }
    // The bound first: it takes another capability to narrow it, which goes next.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        narrow_bound()?;
    } else {
        debug!("without CAP_SETPCAP the bounding set stays as it is");
    }
    let kept: CapsHashSet = permitted.into_iter().filter(|it| *it == NEEDED).collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Inheritable)?;
    Ok(())
}

fn narrow_bound() -> Result<(), PrivilegeError> {
    for capability in caps::read(None, CapSet::Bounding)? {
        if capability != NEEDED {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    Ok(())
}
