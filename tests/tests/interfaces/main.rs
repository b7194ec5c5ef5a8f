//! The plugins that make a Pod's interface, on a real kernel: what is the same for all of them, and
//! each for itself. The bridge has tests of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod dummy;
mod fixture;
mod host_device;
mod interop;
mod ipvlan;
mod kinds;
mod macvlan;
mod ptp;
mod shared_keys;
mod tap;
mod verbs;
mod vlan;
mod vrf;
