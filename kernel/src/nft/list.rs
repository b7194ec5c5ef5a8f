//! Reading what is there.

use nix::libc;

use super::chain::{
    NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE,
    NFTA_RULE_USERDATA, RULE_COMMENT,
};
use super::set::{
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA, SET_COMMENT,
};
use super::table::NFTA_TABLE_NAME;
use super::{Element, Family, HEADER, Nft, RuleInfo, Set, SetInfo, Table, read_comment, request};
use crate::netlink::{Attributes, Error, Message, Reply, Result};

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
        let rule = |reply: &Reply| RuleInfo {
            chain: text(reply, NFTA_RULE_CHAIN),
            expressions: bytes(reply, NFTA_RULE_EXPRESSIONS).to_vec(),
            comment: read_comment(RULE_COMMENT, bytes(reply, NFTA_RULE_USERDATA)),
        };
        Ok(replies.iter().map(rule).collect())
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
        match self.socket.dump(&message) {
            Ok(replies) => Ok(Some(replies.iter().flat_map(elements).collect())),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The element of this key, if the set has it.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn element(&mut self, set: &Set<'_>, key: &Element) -> Result<Option<Element>> {
        let key = Element { verdict: None, comment: String::new(), ..key.clone() };
        let message = set.list("look up in", libc::NFT_MSG_GETSETELEM, 0, &[key]);
        let found = self.socket.get(&[message])?.pop();
        match found.transpose() {
            Ok(reply) => Ok(reply.and_then(|reply| elements(&reply).pop())),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&mut self, table: &Table<'_>, what: &str, kind: i32, name: u16) -> Result<Vec<Reply>> {
        let what = format!("list {what} of nf_tables table {:?}", table.name);
        let message = request(what, kind, 0, table.family).put_text(name, table.name);
        match self.socket.dump(&message) {
            Err(error) if is_none(&error) => Ok(Vec::new()),
            replies => replies,
        }
    }
}

/// Whether there is nothing to list: no such thing, or no nf_tables in this kernel.
fn is_none(error: &Error) -> bool {
    error.is_absent() || error.is_unsupported()
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
