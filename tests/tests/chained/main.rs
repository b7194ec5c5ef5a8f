//! The plugins that are chained behind the one that makes a Pod's interface, on a real kernel.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bandwidth;
mod firewall;
mod fixture;
mod sbr;
mod tuning;
