//! Netlink: the wire format and a socket that asks and gets its answers.
//!
//! Routing (`rtnetlink(7)`) and packet filtering (`nfnetlink`) share the format: a header, a fixed
//! struct of the family, then attributes of type, length and value, padded to four bytes.

mod attribute;
mod error;
mod message;
mod socket;

pub use attribute::{Attribute, Attributes};
pub use error::{Error, Result};
pub use message::{Message, Reply};
pub(crate) use socket::{News, open_in};
pub use socket::{Protocol, Socket};
