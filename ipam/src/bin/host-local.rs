//! `host-local`: the IPAM plugin that reserves addresses of this node's ranges on its disk. With
//! arguments, which no runtime gives, it shows and frees reservations.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The allocator of musl is slow, and halves the speed of a process that lives two milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    ipam::cli::main().unwrap_or_else(|| cni_conf::dispatch::main(&ipam::HostLocal))
}
