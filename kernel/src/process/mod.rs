//! The only module with `unsafe`, for the two things that safe Rust has no word for:
//!
//! - [`note`]: the section of the binary in which its ELF note lies;
//! - [`child`]: a child process that makes one request of the kernel.
//!
//! Everything else in this crate, and all other crates, are compiled with `unsafe` being an error.

pub(crate) mod child;
mod note;
