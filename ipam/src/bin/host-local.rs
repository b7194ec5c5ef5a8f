//! `host-local`: the IPAM plugin that reserves addresses of this node's ranges on its disk.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The allocator of musl is slow, and halves the speed of a process that lives two milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cni_conf::dispatch::main(&ipam::HostLocal)
}
