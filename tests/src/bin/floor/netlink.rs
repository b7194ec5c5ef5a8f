//! Netlink, in as many words as the floor needs: messages put together byte by byte.

use netlink_sys::{Socket, SocketAddr, protocols};
use nix::errno::Errno;
use nix::libc;

use crate::Result;

/// The port of the kernel.
const KERNEL: u32 = 0;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// One datagram's messages.
pub(crate) struct Datagram {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

impl Datagram {
    pub(crate) fn new() -> Self {
        Datagram { bytes: Vec::with_capacity(512), last: 0 }
    }

    /// Begins a message: its type, its flags besides `NLM_F_REQUEST`, and its fixed part.
    pub(crate) fn message(mut self, kind: u16, flags: i32, fixed: &[u8]) -> Self {
        self.last = self.bytes.len();
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(fixed);
        self.seal()
    }

    /// Adds an attribute to the last message.
    pub(crate) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        attribute(&mut self.bytes, kind, value);
        self.seal()
    }

    /// Adds a text, which ends with a zero byte.
    pub(crate) fn put_text(self, kind: u16, text: &str) -> Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Writes the last message's length.
    fn seal(mut self) -> Self {
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// Appends an attribute, padded to four bytes.
pub(crate) fn attribute(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    into.extend(((value.len() + 4) as u16).to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// Attributes in a row, as the value of the one that holds them.
pub(crate) fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    attributes.iter().for_each(|(kind, value)| attribute(&mut bytes, *kind, value));
    bytes
}

/// A socket in the namespace that it was opened in.
pub(crate) struct Netlink(Socket);

impl Netlink {
    pub(crate) fn route() -> Result<Netlink> {
        let socket = Socket::new(protocols::NETLINK_ROUTE)?;
        // So that a list can be one link's.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Netlink(socket))
    }

    pub(crate) fn netfilter() -> Result<Netlink> {
        Ok(Netlink(Socket::new(protocols::NETLINK_NETFILTER)?))
    }

    /// Sends a datagram; the first answer, whose last message was asked to have one: it comes only
    /// if no message failed.
    pub(crate) fn ask(&self, datagram: &Datagram) -> Result<Reply> {
        self.0.send_to(&datagram.bytes, &SocketAddr::new(KERNEL, 0), 0)?;
        self.answer()
    }

    /// Sends a request for a list, and reads it to its end.
    pub(crate) fn list(&self, datagram: &Datagram) -> Result<()> {
        self.0.send_to(&datagram.bytes, &SocketAddr::new(KERNEL, 0), 0)?;
        let done = libc::NLMSG_DONE as u16;
        while !self.answer()?.kinds().any(|kind| kind == done) {}
        Ok(())
    }

    /// The next answer to what was sent.
    pub(crate) fn answer(&self) -> Result<Reply> {
        let mut bytes = Vec::with_capacity(1 << 15);
        self.0.recv(&mut bytes, 0)?;
        let reply = Reply(bytes);
        match reply.error() {
            Some(0) | None => Ok(reply),
            Some(errno) => Err(Errno::from_raw(-errno).into()),
        }
    }
}

/// What the kernel answered: one or several messages.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    /// The number at this place of the first message, behind its header.
    pub(crate) fn number(&self, place: usize) -> Option<u32> {
        number(self.0.get(HEADER + place..)?)
    }

    /// The value of an attribute of the first message, whose fixed part is `fixed` bytes long.
    pub(crate) fn attribute(&self, fixed: usize, kind: u16) -> Option<&[u8]> {
        let length = number(&self.0)? as usize;
        find(self.0.get(HEADER + fixed..length)?, kind)
    }

    fn error(&self) -> Option<i32> {
        let is_error = self.kinds().next()? == libc::NLMSG_ERROR as u16;
        self.number(0).filter(|_| is_error).map(u32::cast_signed)
    }

    fn kinds(&self) -> impl Iterator<Item = u16> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let kind = short(rest.get(4..)?)?;
            let length = (number(rest)? as usize).next_multiple_of(4).max(HEADER);
            rest = rest.get(length..).unwrap_or_default();
            Some(kind)
        })
    }
}

/// The value of an attribute among these.
pub(crate) fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(attributes)?);
        let kind = short(attributes.get(2..)?)? & libc::NLA_TYPE_MASK as u16;
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4).max(4)..)?;
    }
}

/// The number that these bytes begin with.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn short(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}
