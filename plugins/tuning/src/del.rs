//! DEL, and what undoes an ADD that failed: the link is again as its backup says. And GC.
//!
//! The sysctls stay as they are, as with the reference: what is below an interface goes with it, and
//! what is the whole container's may be wanted by another of its networks.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use cni_conf::attachment::{Attachment, network_key};
use cni_conf::plugin::{Call, Upkeep};
use plugin_interface::{Container, Error, Result, Valid};

use crate::backup::{self, Backup, Owner, Place};
use crate::conf;
use crate::error::FileError;

/// Undoes an ADD. Without the container, or its interface, there is nothing to restore.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    // A folder that ADD refuses has no backups.
    if conf::data_dir(&call.conf).is_err() {
        return Ok(());
    }
    restore_and_forget(call, netns)
}

/// Restores the link, and removes the backup. What the kernel refuses to restore is told once: the
/// interface is about to go, and a DEL that fails for ever keeps a Pod from ending.
pub(crate) fn restore_and_forget(call: &Call, netns: Option<&Path>) -> Result<()> {
    let place = Place::new(&conf::data_dir(&call.conf)?, &call.attachment);
    let unwritten = place.remove_scratch().map_err(Error::from);
    let backup = match place.read(&call.attachment) {
        Err(FileError::Taken { .. }) => None,
        read => read?,
    };
    let Some(backup) = backup else { return unwritten };
    let restored = restore(call, netns, &backup);
    match &restored {
        Err(Error::Kernel(error)) if error.errno().is_none() => return restored,
        Err(error) if !matches!(error, Error::Kernel(_)) => return restored,
        _ => {}
    }
    Error::all([restored, place.remove().map_err(Error::from), unwritten])
}

fn restore(call: &Call, netns: Option<&Path>, backup: &Backup) -> Result<()> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    let attachment = &call.attachment;
    let Some(link) = container.rtnl.link_by_name(&attachment.ifname)? else { return Ok(()) };
    // The path may lead to another container by now, and the name to another link.
    let owner = Owner::new(attachment, &container.netns, &link)?;
    if backup.owner.as_ref().is_some_and(|known| *known != owner) {
        return Ok(());
    }
    Ok(container.rtnl.request_all(&backup.link.requests(link.index))?)
}

/// Removes the backups of the network's attachments that are not valid any more. Those of the
/// reference do not say of which network they are, and stay.
pub(crate) fn collect(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    let folder = conf::data_dir(&upkeep.conf)?;
    let entries = match fs::read_dir(&folder) {
        Err(error) if backup::is_absent(&error) => return Ok(()),
        entries => entries.map_err(FileError::backup("list", &folder))?,
    };
    let alive: HashSet<_> = valid.attachments.iter().collect();
    let scratches: HashSet<_> =
        valid.owner_keys().into_iter().map(|owner| format!(".{owner}")).collect();
    let own_scratch = format!(".{}-", network_key(valid.network));
    Error::all(entries.map(|entry| {
        let path = entry.map_err(FileError::backup("list", &folder))?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let garbage = if name.ends_with(".json") {
            let found = backup::read(&path)?.and_then(|backup| backup.owner);
            let owner = found.as_ref().and_then(Owner::attachment);
            owner.is_some_and(|owner| is_dead(&owner, valid.network, &alive))
        } else {
            name.starts_with(&own_scratch) && !scratches.contains(name)
        };
        if garbage { Ok(backup::remove(&path)?) } else { Ok(()) }
    }))
}

fn is_dead(owner: &Attachment, network: &str, alive: &HashSet<&Attachment>) -> bool {
    owner.network == network && !alive.contains(owner)
}
