//! The only module with `unsafe`, for the three things that safe Rust has no word for:
//!
//! - [`note`]: the section of the binary in which its ELF note lies;
//! - [`child`]: a child process that waits for the kernel in its parent's place;
//! - [`tap`]: the requests of `/dev/net/tun`.
//!
//! Everything else in this crate, and all other crates, are compiled with `unsafe` being an error.

pub(crate) mod child;
mod note;
pub(crate) mod tap;
