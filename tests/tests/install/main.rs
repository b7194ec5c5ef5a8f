//! An installation: the plugins where container runtimes look, the conflist that the route syncer
//! writes there, the systemd unit that runs it, and the way back.

mod bin_dir;
mod conflist;
mod killed;
mod node;
mod scene;
mod unit;
