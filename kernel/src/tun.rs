//! Taps: links whose other end is a file of a process (`tun(4)`). `rtnetlink` does not make them.

use std::fs::{File, OpenOptions};
use std::io;

use nix::errno::Errno;
use nix::libc;

use crate::process::tap;

/// A tap to be made in the namespace of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Whether several files may be its other end at once, a queue each.
    pub multi_queue: bool,
    /// The user that may open it beside root.
    pub owner: Option<u32>,
    /// The group that may open it beside root.
    pub group: Option<u32>,
}

/// A tap that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}; this needs /dev/net/tun and CONFIG_TUN (module tun)")]
pub struct TapError {
    action: String,
    /// The operating system's word.
    pub source: io::Error,
}

impl Tap<'_> {
    /// Makes the tap, which stays until it is deleted. Until the last step it goes with this
    /// process, so that whatever fails leaves nothing. An existing tap of the name that nobody has
    /// open is taken for the new one: the caller must know that there is none.
    ///
    /// # Errors
    /// The device file cannot be opened, the name is taken, or a right is missing.
    pub fn create(&self) -> Result<(), TapError> {
        let failed =
            |verb| move |source| TapError { action: format!("{verb} tap {:?}", self.name), source };
        let file = open()?;
        self.attach(&file).map_err(failed("create"))?;
        self.give(&file).map_err(failed("set owner and group of"))?;
        tap::keep(&file).map_err(failed("keep"))
    }

    fn attach(&self, file: &File) -> io::Result<()> {
        let queues = if self.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues;
        let mut name = [0; libc::IFNAMSIZ];
        if self.name.len() >= name.len() {
            return Err(Errno::ENAMETOOLONG.into());
        }
        for (to, from) in name.iter_mut().zip(self.name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short };
        let mut interface = libc::ifreq { ifr_name: name, ifr_ifru };
        tap::attach(file, &mut interface)
    }

    fn give(&self, file: &File) -> io::Result<()> {
        if let Some(owner) = self.owner {
            tap::give_to_user(file, owner)?;
        }
        if let Some(group) = self.group {
            tap::give_to_group(file, group)?;
        }
        Ok(())
    }
}

/// Asks whether taps can be made, and makes none.
///
/// # Errors
/// The device file cannot be opened.
pub fn probe() -> Result<(), TapError> {
    open().map(drop)
}

fn open() -> Result<File, TapError> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened.map_err(|source| TapError { action: "open /dev/net/tun".into(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{NetNs, Rtnl, link};

    #[test]
    fn a_tap_stays_until_it_is_deleted() {
        let ns = NetNs::create().unwrap();
        let tap = Tap { name: "tap0", multi_queue: true, owner: Some(1000), group: Some(1001) };
        ns.run(|| tap.create()).unwrap().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let made = rtnl.link_by_name("tap0").unwrap().unwrap();
        assert_eq!((made.kind.as_str(), made.is_up()), ("tun", false));
        rtnl.request(&link::delete(made.index)).unwrap();
        assert_eq!(rtnl.link_by_name("tap0").unwrap(), None);
    }

    #[test]
    fn a_name_that_another_kind_of_link_has_is_refused() {
        let ns = NetNs::create().unwrap();
        let tap = Tap { name: "lo", multi_queue: false, owner: None, group: None };
        let error = ns.run(|| tap.create()).unwrap().unwrap_err().to_string();
        assert!(error.contains("create tap \"lo\""), "{error}");
    }
}
