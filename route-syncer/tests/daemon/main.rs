//! The built daemon in throw-away network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod cleanup;
mod cluster_range;
mod delay;
mod families;
mod fight;
mod file_source;
mod flush;
mod foreign;
mod gateway;
mod health;
mod heirs;
mod host;
mod lab;
mod masquerade;
mod own_range;
mod preview;
mod privileges;
mod repair;
mod restart;
mod safety;
mod tunnel;
mod watch;
mod whole_files;
