//! `portmap` behind `bridge`: ports of a node that lead to Pods, with real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alone;
mod fixture;
mod flows;
mod holders;
mod interruptions;
mod races;
mod reach;
mod verbs;
