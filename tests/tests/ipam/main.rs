//! `host-local`: addresses that never leak, whoever is killed, comes at once, or is of the other
//! suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod costs;
mod disk;
mod fixture;
mod killed;
mod model;
mod parallel;
mod reference;
