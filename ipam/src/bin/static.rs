//! `static`: the IPAM plugin that hands out the addresses it is told.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The allocator of musl is slow, and halves the speed of a process that lives two milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cni_conf::dispatch::main(&ipam::Static)
}
