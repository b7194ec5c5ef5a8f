//! The bridge plugin as a black box, on real namespaces: what it refuses, what it owns, what it
//! finds again, and whether a container can be reached when ADD has returned.
#![allow(clippy::unwrap_used, clippy::panic)]

mod checks;
mod empty_bridge;
mod fixture;
mod interop;
mod keys;
mod layer2;
mod lock;
mod ownership;
mod reach;
mod refusals;
mod reuse;
mod spoof;
mod upkeep;
mod vlan;
mod wishes;
