//! A node that is switched in place: what the Go reference plugins made, ours take away, and the
//! other way round.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;
mod host_ports;
mod host_ports_shared;
mod masquerade;
mod masquerade_shared;
mod spoof_check;
mod switch_back;
