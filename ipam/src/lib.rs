//! Addresses for containers (IPAM): which one is next, who has which, and the call of whatever
//! IPAM plugin a network names.
//!
//! A configuration of `host-local` has *range sets*; each attachment gets one address of each set. Three layers,
//! the upper using the lower:
//!
//! - **pure**: [`range`] and [`range_set`] check what the configuration says, [`allocate`] says
//!   which address is tried next and which request is refused;
//! - **on disk**: [`store`] keeps a file for each reservation, in the reference's format;
//! - **the plugin**: [`config`] reads the configuration, [`host_local`] is the plugin.
//!
//! [`static_ips`] is the plugin for addresses that somebody else chooses: it needs none of this.
//! [`cli`] is how people look at the reservations. [`call`] is how other plugins reach either of them or any other IPAM.
#![forbid(unsafe_code)]

pub mod allocate;
mod assign;
pub mod call;
pub mod cli;
pub mod config;
mod errors;
pub mod host_local;
pub mod range;
pub mod range_set;
mod resolv_conf;
pub mod static_ips;
pub mod store;

pub use call::Ipam;
pub use host_local::HostLocal;
pub use static_ips::Static;
