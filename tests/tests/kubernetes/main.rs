//! The route syncer with facts from a real Kubernetes API server: routes from Node objects, and
//! everything that can happen to the API server and to the way there.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod applied;
mod fixture;
mod gaps;
mod heartbeats;
mod manifest;
mod nodes;
