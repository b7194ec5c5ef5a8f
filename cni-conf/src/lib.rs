//! The contract between a CNI plugin and the container runtime, to the letter of the
//! [CNI spec 1.1.0](https://www.cni.dev/docs/spec/).
//!
//! A runtime starts a plugin with a verb and names in the environment ([`mod@env`]) and a network
//! configuration on stdin ([`conf`]); the plugin answers with a result ([`result`]) or an error
//! ([`error`]) as JSON on stdout. [`dispatch`] does all of that, so that a plugin is only an
//! implementation of [`plugin::Plugin`]. [`attachment`] gives what an ADD makes its names,
//! [`delegate`] runs another plugin (an IPAM), and [`sync_status`] is the small file by which the
//! route syncer tells plugins that it is ready.
//!
//! Everything a runtime sends is refused here, before a plugin acts, if it can be refused at all.
//! Where the spec is silent, the habits of the Go reference that users rely on are kept: keys
//! match without regard to case, `null` is as good as absent, unknown keys are ignored.

#![forbid(unsafe_code)]

pub mod attachment;
pub mod cni_args;
pub mod conf;
pub mod delegate;
pub mod dispatch;
pub mod env;
pub mod error;
pub mod json;
pub mod names;
pub mod plugin;
pub mod result;
pub mod sync_status;
pub mod version;
