//! kube-proxy and Pods on one bridge: a Pod's packet to a Service is translated to another Pod of the
//! node, whose answer would go over the bridge without a translation back, and be refused. So where
//! kube-proxy is, the bridge must show its packets to the packet filter (`br_netfilter`).

use kernel::nft::{Chain, Family, Nft, Table};
use kernel::sysctl;

use super::Finding;
use super::forwarding::Families;

/// Whether bridged packets pass kube-proxy's rules, where there are any.
pub fn check(families: Families) -> Finding {
    let off = lacking(families);
    if off.is_empty() {
        return Finding::ok("");
    }
    match has_kube_proxy() {
        Ok(false) => Finding::ok(""),
        Err(problem) => {
            Finding::ok(format!("it cannot be told whether kube-proxy is here: {problem}"))
        }
        Ok(true) => Finding::lacking(format!(
            "kube-proxy is here, and Pods do not reach Services by way of Pods of this node; let \
             bridged packets pass its rules: modprobe br_netfilter; {}",
            off.join("; ")
        )),
    }
}

/// What turns it on, for each family in which it is not. Without the module there is no setting.
fn lacking(families: Families) -> Vec<String> {
    let used = [("iptables", families.ipv4), ("ip6tables", families.ipv6)];
    let is_off = |name: &str| {
        let value = sysctl::get(&format!("net/bridge/bridge-nf-call-{name}"));
        value.map_or(true, |value| value == "0")
    };
    let off = used.into_iter().filter(|(name, is_used)| *is_used && is_off(name));
    off.map(|(name, _)| format!("sysctl -w net.bridge.bridge-nf-call-{name}=1")).collect()
}

/// Whether its chains of iptables-nft or its tables of nf_tables are here.
fn has_kube_proxy() -> kernel::Result<bool> {
    let mut nft = match Nft::open() {
        Err(error) if error.is_unsupported() => return Ok(false),
        opened => opened?,
    };
    let families = [Family::Ip, Family::Ip6];
    let chains = families
        .map(|family| Chain { table: Table { family, name: "nat" }, name: "KUBE-SERVICES" });
    if nft.exist(&chains)?.contains(&true) {
        return Ok(true);
    }
    let tables = nft.tables()?;
    Ok(tables.iter().any(|(family, name)| families.contains(family) && name == "kube-proxy"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use kernel::NetNs;

    use super::*;

    #[test]
    fn kube_proxy_is_known_by_its_chains_and_by_its_tables() {
        let chain =
            Chain { table: Table { family: Family::Ip, name: "nat" }, name: "KUBE-SERVICES" };
        let of_iptables = vec![chain.table.add(), chain.add()];
        let of_nft = vec![Table { family: Family::Ip6, name: "kube-proxy" }.add()];
        for changes in [of_iptables, of_nft] {
            NetNs::create()
                .unwrap()
                .run(|| {
                    let v4 = Families { ipv4: true, ipv6: false };
                    if sysctl::get("net/bridge/bridge-nf-call-iptables").is_ok() {
                        sysctl::set("net/bridge/bridge-nf-call-iptables", "0").unwrap();
                    }
                    assert_eq!(check(v4), Finding::ok(""));
                    Nft::open().unwrap().commit(&changes).unwrap();
                    let found = check(v4);
                    let remedy = "sysctl -w net.bridge.bridge-nf-call-iptables=1";
                    assert!(found.words.contains(remedy), "{found:?}");
                    assert!(!found.words.contains("ip6tables"), "{found:?}");
                    if sysctl::get("net/bridge/bridge-nf-call-iptables").is_ok() {
                        sysctl::set("net/bridge/bridge-nf-call-iptables", "1").unwrap();
                        assert_eq!(check(v4), Finding::ok(""));
                    }
                })
                .unwrap();
        }
    }
}
