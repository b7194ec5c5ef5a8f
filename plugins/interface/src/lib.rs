//! The one way in which the plugins make, configure, announce, check and remove the interface of a
//! Pod. A plugin adds what its kind of interface is, and tells the story.
//!
//! In the order of an ADD:
//!
//! - [`keys`]: what several plugins read from their configuration;
//! - [`addresses`]: what IPAM gives, and takes back;
//! - [`inside`] and [`mac`]: what follows from that for the Pod's interface; pure;
//! - [`container_end`]: the Pod's namespace, and its interface in it;
//! - [`host_end`]: for a veth, its end on the host;
//! - [`masquerade`]: what leaves the network leaves with the host's address;
//! - [`ready`]: waiting for what the kernel does in its own time;
//! - [`report`]: the interfaces in a result.
//!
//! Interfaces of which nothing is on the host differ in what they are made of alone: [`alone`] is
//! the rest.
//!
//! A plugin that is chained behind another one starts from [`previous`].
//!
//! What a plugin must remember until DEL, and the kernel does not keep, is in a [`record`].
//!
//! The other verbs: [`removal`] (DEL, and what undoes an ADD), [`valid`] (GC), [`check`], [`status`],
//! which asks for a [`kind`] of links;
//! and for a node that is switched in place, [`reference`].
#![forbid(unsafe_code)]

pub mod addresses;
pub mod alone;
pub mod check;
pub mod container_end;
mod error;
pub mod host_end;
pub mod inside;
pub mod keys;
pub mod kind;
pub mod mac;
pub mod masquerade;
pub mod master;
pub mod previous;
pub mod ready;
pub mod record;
pub mod reference;
pub mod removal;
pub mod report;
pub mod settings;
pub mod status;
pub mod uplink;
pub mod valid;

pub use alone::Alone;
pub use container_end::Container;
pub use error::{Error, Result};
pub use inside::Inside;
pub use masquerade::Masquerade;
pub use previous::Previous;
pub use valid::Valid;
