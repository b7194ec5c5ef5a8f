//! The route syncer: a daemon that keeps a node's routes to the Pods of all other nodes.
//!
//! Facts become claims, claims one table of routes, and the kernel is made to agree:
//!
//! - [`source`] tells which nodes there are; [`roster`] decides which of them to believe in, from
//!   [`memory`] at first;
//! - [`claims`] judges what each node claims; [`desired`] folds what is left into routes;
//! - [`unreachable`] says which ranges packets must not leave for;
//! - [`observed`] reads the kernel; [`difference`] says what must change; [`apply`] changes it;
//! - [`decision`] is all of that up to the change, without effects, under the administrator's
//!   [`settings`];
//! - [`tunnel`] is how nodes behind a router are reached, if [`off_link`] says so;
//! - [`masquerade`] and [`host`] do for packets what routes do not;
//! - [`reconcile`] is one such sync; [`daemon`] decides when there is one, woken by the source and
//!   by the kernel's events ([`monitor`]);
//! - [`status`] and [`show`] tell people, [`readiness`] tells plugins, and [`node_files`] tell
//!   container runtimes ([`conflist`]) and readers of flannel's file ([`subnet_env`]).
//!
//! Programs ask the daemon over HTTP ([`serve`]).
//!
//! Beside the daemon, [`preview`] tells in [`commands`] what it would do, [`check`] what is wrong;
//! [`cleanup`] takes away what it left, and [`install`] puts the plugins where container runtimes look.
//!
//! The daemon fails static: whatever happens to it or to its source, the routes stay.

#![forbid(unsafe_code)]

pub mod apply;
pub mod backoff;
pub mod check;
pub mod claims;
pub mod cleanup;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod conflist;
pub mod daemon;
pub mod decision;
pub mod desired;
pub mod difference;
pub mod error;
pub mod fight;
pub mod host;
pub mod install;
pub mod limit;
pub mod masquerade;
pub mod memory;
pub mod monitor;
pub mod node_files;
pub mod observed;
pub mod off_link;
pub mod preview;
pub mod privileges;
pub mod ranges;
pub mod readiness;
pub mod reconcile;
pub mod replace;
pub mod roster;
pub mod run_dir;
pub mod serve;
pub mod settings;
pub mod show;
pub mod source;
pub mod status;
pub mod subnet_env;
pub mod tunnel;
pub mod unreachable;
