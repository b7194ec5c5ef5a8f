//! The plugins under real runtimes, with real containers, each runtime on a machine of its own.

mod containerd;
mod cri;
mod fixture;
mod image;
mod podman;
mod switch;
