//! Which link of the host is meant.

use std::fs;
use std::path::{Path, PathBuf};

use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::{Error, Result};

use crate::conf::{Conf, wrong};

/// Drivers that hand a device to a program instead of the kernel's network: it has no link then.
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// What is lent.
#[derive(Debug)]
pub(crate) enum Device {
    /// A link.
    Link(Link),
    /// A device that a program in the container drives itself; the container only gets addresses.
    Userspace {
        /// Its place on the PCI bus.
        pci_id: String,
    },
}

/// The device on the host.
///
/// # Errors
/// There is none.
pub(crate) fn find(host: &mut Rtnl, conf: &Conf) -> Result<Device> {
    if let Conf::Bus(id) = conf
        && is_in_userspace(id)
    {
        return Ok(Device::Userspace { pci_id: id.clone() });
    }
    let found = match conf {
        Conf::Name(name) => host.link_by_name(name)?,
        Conf::Mac(mac) => host.links()?.into_iter().find(|link| link.mac == Some(*mac)),
        Conf::Path(path) => link_in(host, &[path.join("net")])?,
        Conf::Bus(id) => link_in(host, &net_folders(id))?,
    };
    let (key, value) = match conf {
        Conf::Name(name) => ("device", name.clone()),
        Conf::Mac(mac) => ("hwaddr", mac.to_string()),
        Conf::Path(path) => ("kernelpath", path.to_string_lossy().into_owned()),
        Conf::Bus(id) => ("pciBusID", id.clone()),
    };
    let reason = "failed to find host device: the host has no such link";
    found.map(Device::Link).ok_or_else(|| wrong(key, &value, reason))
}

fn is_in_userspace(id: &str) -> bool {
    let driver = fs::read_link(format!("/sys/bus/pci/devices/{id}/driver")).ok();
    let name = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name.is_some_and(|name| USERSPACE.contains(&name))
}

/// The folders that hold a device's links: its own, and those of the virtio devices behind it.
fn net_folders(id: &str) -> Vec<PathBuf> {
    let pci = PathBuf::from(format!("/sys/bus/pci/devices/{id}"));
    let auxiliary = PathBuf::from(format!("/sys/bus/auxiliary/devices/{id}"));
    let is_virtio = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("virtio"))
    };
    let virtio = folders(&pci).into_iter().filter(is_virtio).map(|path| path.join("net"));
    [pci.join("net"), auxiliary.join("net")].into_iter().chain(virtio).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// The first link that one of these folders names. They show the links of this namespace alone.
fn link_in(host: &mut Rtnl, named_in: &[PathBuf]) -> Result<Option<Link>> {
    let named = named_in.iter().flat_map(|folder| folders(folder)).next();
    match named.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some(name) => Ok(host.link_by_name(name).map_err(Error::from)?),
        None => Ok(None),
    }
}
