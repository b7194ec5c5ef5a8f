//! The plugins that are chained behind the one that makes a Pod's interface, on a real kernel.
#![allow(clippy::unwrap_used, clippy::panic)]

mod all_at_once;
mod bandwidth;
mod beside;
mod firewall;
mod fixture;
mod sbr;
mod tuning;
