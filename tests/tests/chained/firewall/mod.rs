//! `firewall`.

pub(crate) mod fixture;
mod interop;
mod interruptions;
mod passing;
mod policies;
mod races;
mod rules;
mod verbs;
