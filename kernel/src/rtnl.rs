//! The routing socket of one namespace.

use crate::NetNs;
use crate::netlink::{self, Message, Protocol, Result, Socket};

/// A `NETLINK_ROUTE` socket: links, addresses and routes of the namespace it was opened in.
///
/// Requests are values made by [`crate::link`], [`crate::address`] and [`crate::route`]; this type
/// sends them.
#[derive(Debug)]
pub struct Rtnl {
    pub(crate) socket: Socket,
}

impl Rtnl {
    /// Opens a socket in the current namespace.
    ///
    /// # Errors
    /// The process may not open netlink sockets.
    pub fn open() -> Result<Self> {
        Ok(Rtnl { socket: Socket::open(Protocol::Route)? })
    }

    /// Opens a socket in another namespace; the calling thread stays where it is.
    ///
    /// # Errors
    /// As [`Rtnl::open`], or the namespace cannot be entered.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        netlink::open_in(ns, Self::open)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn request(&mut self, message: &Message) -> Result<()> {
        self.socket.request(message)
    }

    /// Sends requests together, each with an answer of its own; one refused does not stop those
    /// behind it.
    ///
    /// # Errors
    /// The socket fails.
    pub fn batch(&mut self, messages: &[Message]) -> Result<Vec<Result<()>>> {
        self.socket.batch(messages)
    }

    /// Sends requests together and reports the first refusal. Those behind a refused one have been
    /// tried all the same.
    ///
    /// # Errors
    /// The kernel refuses one of them.
    pub fn request_all(&mut self, messages: &[Message]) -> Result<()> {
        self.socket.request_all(messages)
    }
}
