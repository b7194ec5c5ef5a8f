//! Kinds of links that a kernel may lack.

use kernel::Rtnl;
use kernel::link::Kind;

use crate::error::{Error, Result};

/// Asks whether the kernel can make links of a kind, and makes none.
///
/// # Errors
/// It cannot.
pub fn demand(host: &mut Rtnl, kind: Kind) -> Result<()> {
    host.probe_link_kind(kind).map_err(|error| Error::of_kind(kind, error))
}
