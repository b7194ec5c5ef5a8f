//! The image that `scripts/image` makes: what is in it, and that names are resolved in it.
#![allow(clippy::unwrap_used)]

mod contents;
mod names;
mod podman;
mod unpacked;
