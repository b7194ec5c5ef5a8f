//! Strict reverse path filtering: a link drops IPv4 packets whose answers would leave by another.
//!
//! With all nodes behind one link that is harmless: there is no other. With several, what a node
//! sends by one of them may be routed back by another, and strict filters drop it without a word.

use std::collections::BTreeSet;

use kernel::sysctl;

use super::Finding;

const STRICT: &str = "1";

/// Whether the links that other nodes are behind let packets in.
pub fn check(links: &BTreeSet<(u32, String)>) -> Finding {
    let strict: Vec<&str> =
        links.iter().map(|(_, name)| name.as_str()).filter(|name| is_strict(name)).collect();
    judge(links.len(), &strict)
}

/// The stricter of the link's setting and that of all links counts: 0 is off, 1 strict, 2 loose; but
/// 2 is more than 1.
fn is_strict(link: &str) -> bool {
    let value =
        |of: &str| sysctl::get(&format!("net/ipv4/conf/{of}/rp_filter")).unwrap_or_default();
    value("all").max(value(link)) == STRICT
}

fn judge(links: usize, strict: &[&str]) -> Finding {
    if links < 2 || strict.is_empty() {
        return Finding::ok("");
    }
    let remedy: Vec<String> =
        strict.iter().map(|link| format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2")).collect();
    Finding::lacking(format!(
        "nodes are behind {links} links, of which {} drop what would be answered by another (strict \
         reverse path filter); make it loose: {}",
        strict.join(" and "),
        remedy.join("; ")
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use kernel::NetNs;

    use super::*;
    use crate::host::SettingState;

    #[test]
    fn a_strict_filter_matters_only_where_there_is_another_way() {
        let link = |index, name: &str| (index, name.to_owned());
        let one = BTreeSet::from([link(1, "lo")]);
        let two = BTreeSet::from([link(1, "lo"), link(2, "eth7")]);
        NetNs::create()
            .unwrap()
            .run(|| {
                for (all, own, is_lacking) in
                    [("0", "1", true), ("1", "2", false), ("0", "0", false)]
                {
                    sysctl::set("net/ipv4/conf/all/rp_filter", all).unwrap();
                    sysctl::set("net/ipv4/conf/lo/rp_filter", own).unwrap();
                    assert_eq!(check(&one), Finding::ok(""));
                    // The other link is not there and has no setting of its own.
                    let found = check(&BTreeSet::from([link(1, "lo"), link(2, "lo")]));
                    assert_eq!(found.state == SettingState::Lacking, is_lacking, "{found:?}");
                }
                sysctl::set("net/ipv4/conf/all/rp_filter", "1").unwrap();
                let found = check(&two);
                assert!(
                    found.words.contains("sysctl -w net.ipv4.conf.eth7.rp_filter=2"),
                    "{found:?}"
                );
            })
            .unwrap();
    }
}
