//! Reading links.

use nix::libc;

use super::{Link, header};
use crate::Rtnl;
use crate::netlink::{Message, Result};

impl Rtnl {
    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        Ok(self.links_by_name(&[name])?.pop().flatten())
    }

    /// The links of these names, asked for together, in their order.
    ///
    /// # Errors
    /// As [`Rtnl::link_by_name`].
    pub fn links_by_name(&mut self, names: &[&str]) -> Result<Vec<Option<Link>>> {
        let ask = |name: &&str| {
            get(format!("look up link {name:?}"), 0).put_text(libc::IFLA_IFNAME, name)
        };
        let messages: Vec<_> = names.iter().map(ask).collect();
        self.links_asked_for(&messages)
    }

    /// The link of this index, if there is one.
    ///
    /// # Errors
    /// As [`Rtnl::link_by_name`].
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        Ok(self.links_by_index(&[index])?.pop().flatten())
    }

    /// The links of these indices, asked for together, in their order.
    ///
    /// # Errors
    /// As [`Rtnl::link_by_name`].
    pub fn links_by_index(&mut self, indices: &[u32]) -> Result<Vec<Option<Link>>> {
        let ask = |index: &u32| get(format!("look up link {index}"), *index);
        let messages: Vec<_> = indices.iter().map(ask).collect();
        self.links_asked_for(&messages)
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = Message::new("list links", libc::RTM_GETLINK, 0, &header(0, 0, 0));
        Ok(self.socket.dump(&message)?.iter().map(Link::parse).collect())
    }

    fn links_asked_for(&mut self, messages: &[Message]) -> Result<Vec<Option<Link>>> {
        let found = self.socket.get(messages)?.into_iter().map(|answer| match answer {
            Ok(reply) => Ok(Some(Link::parse(&reply))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        });
        found.collect()
    }
}

fn get(what: String, index: u32) -> Message {
    Message::new(what, libc::RTM_GETLINK, 0, &header(index, 0, 0))
}
