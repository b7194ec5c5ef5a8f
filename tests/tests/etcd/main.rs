//! The route syncer with facts from a real etcd: nodes that take their subnets and learn the
//! others', and everything that can happen to etcd meanwhile.
#![allow(clippy::unwrap_used, clippy::panic)]

mod farewell;
mod fixture;
mod formats;
mod join;
mod leases;
mod metrics;
mod model;
mod outages;
mod tls;
