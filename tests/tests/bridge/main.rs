//! The bridge plugin as a black box, on real namespaces: what it refuses, what it owns, what it
//! finds again, and whether a container can be reached when ADD has returned.
#![allow(clippy::unwrap_used, clippy::panic)]

mod checks;
mod fixture;
mod keys;
mod ownership;
mod reach;
mod refusals;
mod upkeep;
