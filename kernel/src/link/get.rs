//! Reading links.

use nix::libc;

use super::{Link, Veth, header};
use crate::Rtnl;
use crate::netlink::{Message, Reply, Result};

const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

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
        let messages: Vec<_> = names.iter().map(by_name).collect();
        found(self.socket.get(&messages)?)
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
        let messages: Vec<_> = indices.iter().map(by_index).collect();
        found(self.socket.get(&messages)?)
    }

    /// Makes changes, and then looks at the links of these indices, all in one datagram.
    ///
    /// # Errors
    /// The first refusal of a change; as [`Rtnl::link_by_name`].
    pub fn change_and_look(
        &mut self,
        changes: &[Message],
        indices: &[u32],
    ) -> Result<Vec<Option<Link>>> {
        let messages: Vec<_> = indices.iter().map(by_index).collect();
        found(self.socket.request_and_get(changes, &messages)?)
    }

    /// Makes a veth pair and tells what this end is. The question names it, but it changes nothing:
    /// were the name another's, the pair was not made, and that is the answer.
    ///
    /// # Errors
    /// As [`Veth::create`]; as [`Rtnl::link_by_name`].
    pub fn make_veth(&mut self, veth: &Veth<'_>) -> Result<Option<Link>> {
        let answers = self.socket.request_and_get(&[veth.create()], &[by_name(&veth.name)])?;
        Ok(found(answers)?.pop().flatten())
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = get("list links".into(), 0);
        Ok(self.socket.dump(&message)?.iter().map(Link::parse).collect())
    }
}

/// The links in the answers; what is not there is none.
fn found(answers: Vec<Result<Reply>>) -> Result<Vec<Option<Link>>> {
    let links = answers.into_iter().map(|answer| match answer {
        Ok(reply) => Ok(Some(Link::parse(&reply))),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    });
    links.collect()
}

fn by_name(name: &&str) -> Message {
    get(format!("look up link {name:?}"), 0).put_text(libc::IFLA_IFNAME, name)
}

fn by_index(index: &u32) -> Message {
    get(format!("look up link {index}"), *index)
}

/// Without the counters of the link, which nobody reads: the kernel adds up those of all CPUs.
fn get(what: String, index: u32) -> Message {
    Message::new(what, libc::RTM_GETLINK, 0, &header(index, 0, 0))
        .put_u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
}
