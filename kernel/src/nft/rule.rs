//! Rules as the kernel lists them: whose they are, what they match and where they lead.

use std::net::IpAddr;

use nix::libc;

use super::chain::{NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_USERDATA};
use super::expression::{
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
};
use super::field::{Field, offset_of};
use super::{HEADER, read_comment};
use crate::address::from_octets;
use crate::netlink::{Attribute, Attributes, Reply};

/// `NFTNL_UDATA_RULE_COMMENT`.
pub(super) const RULE_COMMENT: u8 = 0;
/// The type of a rule's user data that holds its owner: none of libnftnl's own, and far from them.
/// `nft` and `iptables-nft` pass over types that they do not know.
pub(super) const RULE_OWNER: u8 = 0xcb;
pub(super) const NFTA_MATCH_NAME: u16 = 1;
pub(super) const NFTA_MATCH_REV: u16 = 2;
pub(super) const NFTA_MATCH_INFO: u16 = 3;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_TARGET_NAME: u16 = 1;

/// A rule as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The name of its chain.
    pub chain: String,
    /// Its number in its table, which no other rule there ever has.
    pub handle: u64,
    /// Its expressions, as the kernel encodes them.
    pub expressions: Vec<u8>,
    /// Its comment, empty if it has none: that of `nft`, or else that of `iptables-nft`, which
    /// stands in an expression.
    pub comment: String,
    /// The owner that [`super::Chain::append_owned`] wrote into it; empty if there is none.
    pub owner: String,
}

/// One of a rule's expressions: its name, and the attributes that go with it.
struct Step<'a> {
    name: String,
    data: Attributes<'a>,
}

impl RuleInfo {
    pub(super) fn parse(reply: &Reply) -> RuleInfo {
        let attributes = reply.attributes(HEADER);
        let bytes = |kind| attributes.get(kind).map(|found| found.value).unwrap_or_default();
        let mut rule = RuleInfo {
            chain: attributes.get(NFTA_RULE_CHAIN).map(|name| name.text()).unwrap_or_default(),
            handle: attributes.get(NFTA_RULE_HANDLE).and_then(|it| it.u64_be()).unwrap_or(0),
            expressions: bytes(NFTA_RULE_EXPRESSIONS).to_vec(),
            comment: read_comment(RULE_COMMENT, bytes(NFTA_RULE_USERDATA)),
            owner: read_comment(RULE_OWNER, bytes(NFTA_RULE_USERDATA)),
        };
        if rule.comment.is_empty() {
            rule.comment = rule.iptables_comment().unwrap_or_default();
        }
        rule
    }

    /// The chain that packets of this rule go to, whether they come back or not.
    pub fn leads_to(&self) -> Option<String> {
        self.steps().find_map(|step| {
            let verdict = step.of("immediate")?.get(NFTA_IMMEDIATE_DATA)?.nested();
            let verdict = verdict.get(NFTA_DATA_VERDICT)?.nested();
            match verdict.get(NFTA_VERDICT_CODE)?.u32_be()? as i32 {
                libc::NFT_JUMP | libc::NFT_GOTO => Some(verdict.get(NFTA_VERDICT_CHAIN)?.text()),
                _ => None,
            }
        })
    }

    /// Whether no packet comes past the rule, whatever it is: it has no condition, and drops or
    /// rejects.
    pub fn stops_all(&self) -> bool {
        let mut stops = false;
        for step in self.steps() {
            match step.name.as_str() {
                "counter" | "log" => {}
                "reject" => stops = true,
                "match" if step.text(NFTA_MATCH_NAME) == "comment" => {}
                "target" if step.text(NFTA_TARGET_NAME) == "REJECT" => stops = true,
                "immediate" if step.verdict() == Some(libc::NF_DROP) => stops = true,
                _ => return false,
            }
        }
        stops
    }

    /// The one address that this field must have; `None` if the rule does not ask for one.
    pub fn address(&self, field: Field) -> Option<IpAddr> {
        self.steps().zip(self.steps().skip(1)).find_map(|(load, compare)| {
            let (load, compare) = (load.of("payload")?, compare.of("cmp")?);
            let number = |of: &Attributes<'_>, kind| of.get(kind)?.u32_be();
            let value = compare.get(NFTA_CMP_DATA)?.nested().get(NFTA_DATA_VALUE)?.value;
            let length = u32::try_from(value.len()).ok();
            let whole = number(&load, NFTA_PAYLOAD_BASE)?
                == libc::NFT_PAYLOAD_NETWORK_HEADER as u32
                && Some(number(&load, NFTA_PAYLOAD_OFFSET)?) == offset_of(field, value.len())
                && number(&load, NFTA_PAYLOAD_LEN) == length
                && number(&compare, NFTA_CMP_OP)? == libc::NFT_CMP_EQ as u32;
            if whole { from_octets(value) } else { None }
        })
    }

    fn iptables_comment(&self) -> Option<String> {
        self.steps().find_map(|step| {
            let data = step.of("match")?;
            let is_comment = data.get(NFTA_MATCH_NAME)?.text() == "comment";
            is_comment.then(|| data.get(NFTA_MATCH_INFO).map(|info| info.text()))?
        })
    }

    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        Attributes::new(&self.expressions).filter_map(|element| Step::parse(&element))
    }
}

impl<'a> Step<'a> {
    fn parse(element: &Attribute<'a>) -> Option<Self> {
        let attributes = element.nested();
        let name = attributes.get(NFTA_EXPR_NAME)?.text();
        Some(Step { name, data: attributes.get(NFTA_EXPR_DATA)?.nested() })
    }

    fn text(&self, kind: u16) -> String {
        self.data.get(kind).map(|found| found.text()).unwrap_or_default()
    }

    /// The verdict that it gives, if it does.
    fn verdict(&self) -> Option<i32> {
        let verdict = self.data.get(NFTA_IMMEDIATE_DATA)?.nested().get(NFTA_DATA_VERDICT)?;
        Some(verdict.nested().get(NFTA_VERDICT_CODE)?.u32_be()? as i32)
    }

    /// The attributes, if the expression is of this name.
    fn of(self, name: &str) -> Option<Attributes<'a>> {
        (self.name == name).then_some(self.data)
    }
}
