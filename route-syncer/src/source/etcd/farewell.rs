//! `leave` and `forget`: the only ways by which a node goes for good.

use super::client::Connection;
use super::error::EtcdError;
use super::own::{describe, leases};
use super::state::{State, StateError, StateFile};
use super::value::Identity;

/// Why nobody went.
#[derive(Debug, thiserror::Error)]
pub enum FarewellError {
    /// Etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// Somebody wrote between reading and writing.
    #[error("the lease {0} has just changed; look at the status, and try again")]
    Changed(String),
    /// Not known.
    #[error("no node {name:?} has a lease in etcd or is held here; held are: {held}")]
    Unknown {
        /// The name that was given.
        name: String,
        /// Names that could be.
        held: String,
    },
    /// Its own name.
    #[error("{0:?} is this node; it gives its subnet back with: route-syncer leave")]
    Oneself(String),
}

/// Gives this node's subnet back. Returns what was done, in words.
///
/// # Errors
/// Etcd does not answer, or the lease changed meanwhile.
pub async fn leave(connection: &Connection, own: &Identity) -> Result<Vec<String>, FarewellError> {
    let (etcd, contents) = connection.open().await?;
    let mut done = Vec::new();
    for (subnet, identity) in leases(&contents).filter(|(_, other)| other.is_same_node(own)) {
        if !etcd.sign_off(&identity, subnet, &contents, true).await? {
            return Err(FarewellError::Changed(subnet.to_string()));
        }
        done.push(format!("the subnet {subnet} is free; other nodes remove their routes to it"));
    }
    if done.is_empty() {
        done.push("no lease of this node is in etcd".to_owned());
    }
    Ok(done)
}

/// Forgets the subnet of before, so that this node takes any when it starts again. Only while no
/// daemon runs: it has its own memory.
///
/// # Errors
/// The state file cannot be written.
pub fn forget_own_subnet(file: &StateFile) -> Result<String, FarewellError> {
    let mut state = file.read()?;
    let text = match state.own.take() {
        Some(subnet) => format!("this node no longer remembers {subnet}"),
        None => return Ok("this node remembers no subnet".to_owned()),
    };
    file.write(&state)?;
    file.settle()?;
    Ok(text)
}

/// Confirms that a node is gone for good. Returns what was done, in words.
///
/// # Errors
/// Nobody of this name is known, or etcd does not answer.
pub async fn forget(
    connection: &Connection,
    name: &str,
    own_name: &str,
    state: &State,
) -> Result<Vec<String>, FarewellError> {
    if name == own_name {
        return Err(FarewellError::Oneself(name.to_owned()));
    }
    let (etcd, contents) = connection.open().await?;
    let is_meant = |identity: &Identity, key: &str| {
        identity.name == name || format!("{}@{key}", identity.name) == name
    };
    let mut meant: Vec<_> = leases(&contents)
        .filter(|(subnet, identity)| is_meant(identity, &subnet.to_string()))
        .collect();
    let living = meant.len();
    let held = state.picture.held().map(|member| (member.subnet, member.identity.clone()));
    meant.extend(held.filter(|(subnet, identity)| {
        let key = subnet.to_string();
        is_meant(identity, &key) && !contents.leases.contains_key(&key)
    }));
    if meant.is_empty() {
        let held: Vec<&str> = state.picture.held().map(|m| m.identity.name.as_str()).collect();
        let held = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
        return Err(FarewellError::Unknown { name: name.to_owned(), held });
    }
    let mut done = Vec::new();
    for (number, (subnet, identity)) in meant.iter().enumerate() {
        if !etcd.sign_off(identity, *subnet, &contents, false).await? {
            return Err(FarewellError::Changed(subnet.to_string()));
        }
        let who = describe(identity);
        done.push(if number < living {
            format!("{subnet} of {who} is free; if it is alive, it takes it again by itself")
        } else {
            format!("{subnet} of {who} is free; all nodes remove their routes to it")
        });
    }
    Ok(done)
}
