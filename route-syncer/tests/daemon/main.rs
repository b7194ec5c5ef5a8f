//! The built daemon in throw-away network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod cleanup;
mod file_source;
mod lab;
mod masquerade;
mod own_range;
mod preview;
mod repair;
mod restart;
mod tunnel;
