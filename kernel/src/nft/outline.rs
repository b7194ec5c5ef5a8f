//! What a rule does, to compare a rule of the kernel's with one that would be written.

use super::expression::{
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
};
use super::rule::{NFTA_MATCH_INFO, NFTA_MATCH_NAME, NFTA_MATCH_REV};
use super::{Expression, RuleInfo};
use crate::netlink::{Attribute, Attributes, Message};

/// One expression: its name, and what tells it from others of the name. Registers are left out,
/// since rules of one line use one register; so is what was counted.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: String,
    details: Vec<Vec<u8>>,
}

impl RuleInfo {
    /// Whether the rule is made of exactly these expressions, whatever was counted.
    pub fn is_made_of(&self, expressions: &[Expression<'_>]) -> bool {
        let written = expressions
            .iter()
            .fold(Message::new("compare", 0, 0, &[]), |list, expression| expression.put(list));
        outline(&self.expressions) == outline(written.body())
    }
}

fn outline(expressions: &[u8]) -> Option<Vec<Step>> {
    Attributes::new(expressions).map(|element| step(&element)).collect()
}

fn step(element: &Attribute<'_>) -> Option<Step> {
    let attributes = element.nested();
    let name = attributes.get(NFTA_EXPR_NAME)?.text();
    let data = attributes.get(NFTA_EXPR_DATA).map(|data| data.nested());
    let data = data.unwrap_or_else(|| Attributes::new(&[]));
    let raw = |kind| data.get(kind).map(|found| found.value.to_vec()).unwrap_or_default();
    let details = match name.as_str() {
        "payload" => vec![raw(2), raw(3), raw(4)],
        "meta" => vec![raw(2)],
        "cmp" => vec![raw(2), data.get(3)?.nested().get(NFTA_DATA_VALUE)?.value.to_vec()],
        "match" => vec![raw(NFTA_MATCH_NAME), raw(NFTA_MATCH_REV), trimmed(raw(NFTA_MATCH_INFO))],
        "counter" => Vec::new(),
        "immediate" => {
            let verdict = data.get(2)?.nested().get(NFTA_DATA_VERDICT)?.nested();
            let chain = verdict.get(NFTA_VERDICT_CHAIN).map(|chain| chain.value.to_vec());
            vec![verdict.get(NFTA_VERDICT_CODE)?.value.to_vec(), chain.unwrap_or_default()]
        }
        _ => data.map(|attribute| attribute.value.to_vec()).collect(),
    };
    Some(Step { name, details })
}

/// The kernel pads what a match is given.
fn trimmed(mut info: Vec<u8>) -> Vec<u8> {
    info.truncate(info.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    info
}
