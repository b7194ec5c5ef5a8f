//! Reading what is there.

use nix::errno::Errno;
use nix::libc;

use super::chain::{NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_CHAIN_USE, NFTA_RULE_TABLE};
use super::set::{
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA, SET_COMMENT,
};
use super::table::NFTA_TABLE_NAME;
use super::{
    Chain, Element, Family, HEADER, Nft, RuleInfo, Set, SetInfo, Table, read_comment, request,
};
use crate::netlink::{Attributes, Message, Reply, Result};

impl Nft {
    /// The tables of the families that this crate knows.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn tables(&mut self) -> Result<Vec<(Family, String)>> {
        let header = [libc::AF_UNSPEC as u8, 0, 0, 0];
        let kind = super::SUBSYSTEM << 8 | libc::NFT_MSG_GETTABLE as u16;
        let replies = self.socket.dump(&Message::new("list nf_tables tables", kind, 0, &header))?;
        let table = |reply: &Reply| {
            Some((Family::from_number(reply.u8_at(0))?, text(reply, NFTA_TABLE_NAME)))
        };
        Ok(replies.iter().filter_map(table).collect())
    }

    /// The names of a table's chains; none if there is no such table.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn chains(&mut self, table: &Table<'_>) -> Result<Vec<String>> {
        let replies = self.list(table, "chains", libc::NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE)?;
        // The kernel does not filter chains by table.
        let own = |reply: &&Reply| text(reply, NFTA_CHAIN_TABLE) == table.name;
        Ok(replies.iter().filter(own).map(|reply| text(reply, NFTA_CHAIN_NAME)).collect())
    }

    /// A table's rules in their order, chain by chain; none if there is no such table.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn rules(&mut self, table: &Table<'_>) -> Result<Vec<RuleInfo>> {
        let replies = self.list(table, "rules", libc::NFT_MSG_GETRULE, NFTA_RULE_TABLE)?;
        Ok(replies.iter().map(RuleInfo::parse).collect())
    }

    /// A chain's rules in their order; none if there is no such chain.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn rules_of(&mut self, chain: &Chain<'_>) -> Result<Vec<RuleInfo>> {
        let what = format!("list the rules of nf_tables chain {:?}", chain.name);
        let message = chain.in_chain(request(what, libc::NFT_MSG_GETRULE, 0, chain.table.family));
        let replies = none_if_absent(self.socket.dump(&message))?.unwrap_or_default();
        Ok(replies.iter().map(RuleInfo::parse).collect())
    }

    /// For each of these chains whether it is there, by one datagram.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn exist(&mut self, chains: &[Chain<'_>]) -> Result<Vec<bool>> {
        Ok(self.uses(chains)?.iter().map(Option::is_some).collect())
    }

    /// For each of these chains how often it is used, by a datagram for many of them: the rules in it and the
    /// jumps to it are counted together. `None` where there is no such chain.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn uses(&mut self, chains: &[Chain<'_>]) -> Result<Vec<Option<u32>>> {
        let ask = |chain: &Chain<'_>| {
            let what = format!("look for nf_tables chain {:?}", chain.name);
            chain.named(request(what, libc::NFT_MSG_GETCHAIN, 0, chain.table.family))
        };
        let count = |reply: Reply| {
            bytes(&reply, NFTA_CHAIN_USE).first_chunk().copied().map_or(0, u32::from_be_bytes)
        };
        let asked: Vec<_> = chains.iter().map(ask).collect();
        let answers = self.socket.get(&asked)?.into_iter();
        answers.map(|answer| Ok(none_if_absent(answer)?.map(count))).collect()
    }

    /// A table's sets and maps that have a name; none if there is no such table.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn sets(&mut self, table: &Table<'_>) -> Result<Vec<SetInfo>> {
        let replies = self.list(table, "sets", libc::NFT_MSG_GETSET, NFTA_SET_TABLE)?;
        let set = |reply: &Reply| SetInfo {
            name: text(reply, NFTA_SET_NAME),
            comment: read_comment(SET_COMMENT, bytes(reply, NFTA_SET_USERDATA)),
        };
        Ok(replies.iter().map(set).collect())
    }

    /// The elements of a set; `None` if there is no such set.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn elements(&mut self, set: &Set<'_>) -> Result<Option<Vec<Element>>> {
        let message = set.list("list", libc::NFT_MSG_GETSETELEM, 0, &[]);
        let replies = none_if_absent(self.socket.dump(&message))?;
        Ok(replies.map(|replies| replies.iter().flat_map(elements).collect()))
    }

    /// The element of this key, if the set has it.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn element(&mut self, set: &Set<'_>, key: &Element) -> Result<Option<Element>> {
        Ok(self.each_element(&[(*set, key)])?.pop().flatten())
    }

    /// As [`Nft::element`] for each of these, by a datagram for many of them.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn each_element(&mut self, asked: &[(Set<'_>, &Element)]) -> Result<Vec<Option<Element>>> {
        let ask = |(set, key): &(Set<'_>, &Element)| {
            let bare = Element { key: key.key.clone(), ..Element::default() };
            set.list("look up in", libc::NFT_MSG_GETSETELEM, 0, &[bare])
        };
        let messages: Vec<_> = asked.iter().map(ask).collect();
        let first = |reply: Reply| elements(&reply).pop();
        let answers = self.socket.get(&messages)?.into_iter();
        answers.map(|answer| Ok(none_if_absent(answer)?.and_then(first))).collect()
    }

    fn list(&mut self, table: &Table<'_>, what: &str, kind: i32, name: u16) -> Result<Vec<Reply>> {
        let what = format!("list {what} of nf_tables table {:?}", table.name);
        let message = request(what, kind, 0, table.family).put_text(name, table.name);
        Ok(none_if_absent(self.socket.dump(&message))?.unwrap_or_default())
    }
}

/// `None` if there is no such thing, or no nf_tables in this kernel. There can be nothing by a name
/// that is longer than the kernel takes one (`ERANGE`).
fn none_if_absent<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.is_absent() || error.is_unsupported() || error.is(Errno::ERANGE) => {
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

fn elements(reply: &Reply) -> Vec<Element> {
    let list = Attributes::new(bytes(reply, NFTA_SET_ELEM_LIST_ELEMENTS));
    list.filter_map(|element| Element::parse(&element)).collect()
}

fn bytes(reply: &Reply, kind: u16) -> &[u8] {
    reply.attributes(HEADER).get(kind).map(|attribute| attribute.value).unwrap_or_default()
}

fn text(reply: &Reply, kind: u16) -> String {
    reply.attributes(HEADER).get(kind).map(|attribute| attribute.text()).unwrap_or_default()
}
