//! DEL, and what undoes an ADD that failed: in which order an attachment's things go.

use std::path::Path;

use cni_conf::plugin::Call;

use crate::addresses;
use crate::error::{Error, Result};

/// Goes on after `links`, the removal of the attachment's links, was tried: with the `others`, and
/// last with the addresses. Each step is tried, whatever became of the rest; but the addresses are
/// released only if the links are gone: nobody may get them while the container still uses them.
///
/// # Errors
/// Those of all steps, in one.
pub fn finish(
    call: &Call,
    netns: Option<&Path>,
    links: Result<()>,
    others: impl IntoIterator<Item = Result<()>>,
) -> Result<()> {
    let addresses = if links.is_ok() { addresses::release(call, netns) } else { Ok(()) };
    Error::all([links].into_iter().chain(others).chain([addresses]))
}
