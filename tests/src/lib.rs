//! The laboratory of network namespaces for the black-box tests, and the demo built on it.
//!
//! A *host* ([`node::Node`]) is a throw-away network namespace, and so is a [`pod::Pod`]; the
//! binaries under test ([`bins`]) run inside a host as real processes, called by a small runtime
//! ([`runtime`]) or directly ([`plugin`]). [`topology`] wires hosts up to the network of DESIGN.md
//! and [`cluster`] and [`syncer`] make it one of Pods, [`probe`] asks whether and as whom one end
//! reaches another, [`pings`] count what is lost meanwhile, [`snapshot`] and [`files`] compare what
//! a call left behind. [`strace`] cuts calls short, and [`pause`] lets others come in between.
//! [`route_events`] hears of routes that come and go. [`sample`] has a network of each
//! interface plugin, [`floor`] is what the bare program needs that plugins are measured with.
//! Nothing is ever changed in the machine's own namespace.
#![forbid(unsafe_code)]

pub mod bins;
pub mod cluster;
pub mod counts;
pub mod daemon;
pub mod error;
pub mod etcd;
pub mod files;
pub mod floor;
pub mod folder;
pub mod http;
pub mod kube;
pub mod machine;
pub mod node;
pub mod pause;
pub mod pings;
pub mod plugin;
pub mod pod;
pub mod probe;
pub mod process;
pub mod require;
pub mod route_events;
pub mod runtime;
pub mod sample;
pub mod snapshot;
pub mod strace;
pub mod syncer;
pub mod topology;
pub mod uml;
pub mod wait;

pub use error::{Failure, LabError, Outcome, Result};
