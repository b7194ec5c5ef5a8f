//! How much of the kernel the floor asks for. A test holds them against `strace`.

/// What one call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Datagrams sent by netlink; some carry several messages.
    pub(crate) requests: usize,
    /// System calls that name a file, the namespaces and settings among them.
    pub(crate) files: usize,
}

/// host-local ADD: the lock, the index, the folder before and after, the last address; a file
/// without a name, and its name.
pub(crate) const RESERVE: Counts = Counts { requests: 0, files: 7 };
/// host-local DEL: the lock, the index, the folder before and after; the file read and removed.
pub(crate) const RELEASE: Counts = Counts { requests: 0, files: 6 };

/// bridge ADD. Requests: the bridge, its addresses, is the container's name free; create, configure,
/// mark, and ask for the port and the bridge; announce. Files: which namespaces are they, and the container's opened;
/// forwarding, two settings, and the reservation.
pub(crate) const ADD: Counts = Counts { requests: 7, files: 6 + RESERVE.files };
/// bridge DEL: find, delete.
pub(crate) const DEL: Counts = Counts { requests: 2, files: RELEASE.files };

/// IPv6, too. Request: is the address local. Files: forwarding, two settings, the last address, a
/// file without a name, and its name.
pub(crate) const ADD_DUAL_STACK: Counts =
    Counts { requests: ADD.requests + 1, files: ADD.files + 6 };
/// One more file is read and removed.
pub(crate) const DEL_DUAL_STACK: Counts = Counts { requests: DEL.requests, files: DEL.files + 2 };

/// Masquerading, too: one transaction.
pub(crate) const ADD_MASQUERADING: Counts = Counts { requests: ADD.requests + 1, ..ADD };
/// One transaction.
pub(crate) const DEL_MASQUERADING: Counts = Counts { requests: DEL.requests + 1, ..DEL };

/// ptp ADD. Requests: is the container's name free; create, the host's end, the container's end, is
/// the host's end passing frames. Files: one more than bridge, since the host's end has a setting.
pub(crate) const PTP_ADD: Counts = Counts { requests: 5, files: ADD.files + 1 };
