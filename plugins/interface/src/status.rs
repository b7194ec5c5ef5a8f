//! STATUS: whether the next ADD would work, in constant time.

use cni_conf::error::Code;
use cni_conf::plugin::Upkeep;

use crate::addresses;
use crate::error::{Error, Result};

/// Says whether the next ADD would work: by what the plugin looked at itself, then by IPAM. A node
/// that answers "not available" loses its Pods after some minutes, so only what would make an ADD
/// fail is told.
///
/// # Errors
/// [`Error::NotReady`], or an error that says so itself.
pub fn answer(upkeep: &Upkeep, own: Result<()>) -> Result<()> {
    own.and_then(|()| addresses::status(upkeep)).map_err(not_ready)
}

fn not_ready(error: Error) -> Error {
    match error.code() {
        Code::NotAvailable | Code::LimitedConnectivity => error,
        _ => Error::NotReady(error.to_string()),
    }
}
