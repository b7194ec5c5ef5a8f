//! The requests that only `/dev/net/tun` takes: see [`crate::tun`].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

mod request {
    use nix::libc;

    // Of linux/if_tun.h. The numbers say "write an int", but some take the value itself.
    nix::ioctl_readwrite_bad!(set_iff, 0x4004_54ca, libc::ifreq);
    nix::ioctl_write_int_bad!(set_persist, 0x4004_54cb);
    nix::ioctl_write_int_bad!(set_owner, 0x4004_54cc);
    nix::ioctl_write_int_bad!(set_group, 0x4004_54ce);
}

/// Makes a link the other end of the file (`TUNSETIFF`).
pub(crate) fn attach(file: &File, interface: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the kernel reads and writes one `ifreq`, which lives as long as the call.
    #[allow(unsafe_code)]
    let done = unsafe { request::set_iff(file.as_raw_fd(), interface) };
    Ok(done.map(drop)?)
}

/// Lets the file's link stay when the file is closed (`TUNSETPERSIST`).
pub(crate) fn keep(file: &File) -> io::Result<()> {
    // SAFETY: the argument is a number, and the file is open.
    #[allow(unsafe_code)]
    let done = unsafe { request::set_persist(file.as_raw_fd(), 1) };
    Ok(done.map(drop)?)
}

/// Lets a user open the file's link (`TUNSETOWNER`).
pub(crate) fn give_to_user(file: &File, user: u32) -> io::Result<()> {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let done = unsafe { request::set_owner(file.as_raw_fd(), user.cast_signed()) };
    Ok(done.map(drop)?)
}

/// Lets a group open the file's link (`TUNSETGROUP`).
pub(crate) fn give_to_group(file: &File, group: u32) -> io::Result<()> {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let done = unsafe { request::set_group(file.as_raw_fd(), group.cast_signed()) };
    Ok(done.map(drop)?)
}
