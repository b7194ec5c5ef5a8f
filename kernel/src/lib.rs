//! The contract with Linux: network namespaces, links, addresses, routes, nf_tables and sysctls.
//!
//! Everything here is blocking and small: a plugin lives two milliseconds and sends a handful of
//! netlink messages. [`netlink`] holds the wire format and one request–answer socket; the other
//! modules are named after the objects of the kernel and speak its vocabulary.
//!
//! Nothing in this crate decides anything: what a link should look like is the caller's business.

pub mod address;
pub mod conntrack;
pub mod elf_note;
pub mod events;
pub mod fdb;
mod forwarding;
pub mod link;
pub mod mac;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nft;
mod process;
pub mod route;
mod rtnl;
pub mod rule;
pub mod sysctl;
pub mod traffic;
pub mod tun;

pub use mac::MacAddress;
pub use netlink::{Error, Result};
pub use netns::NetNs;
pub use rtnl::Rtnl;
