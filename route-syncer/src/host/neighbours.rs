//! Room in the neighbour table: every node is a neighbour of every other, and the kernel's table
//! holds 1024 unless it is told otherwise.
//!
//! The limits are one for all network namespaces, and are seen in the first one only. So they are not
//! ours to set.

use kernel::sysctl;

use super::Finding;
use super::forwarding::Families;

/// Up to so many nodes the defaults (128, 512 and 1024) are enough, Pods of this node included.
const FEW: usize = 500;

/// Whether the tables of the families in use hold so many nodes.
pub fn check(families: Families, nodes: usize) -> Finding {
    if nodes <= FEW {
        return Finding::ok("");
    }
    let used = [("ipv4", families.ipv4), ("ipv6", families.ipv6)];
    let lacking: Vec<String> = used
        .into_iter()
        .filter(|(_, is_used)| *is_used)
        .filter_map(|(family, _)| remedy(family, limit(family)?, nodes))
        .collect();
    if lacking.is_empty() {
        return Finding::ok("");
    }
    Finding::lacking(format!(
        "the neighbour table is too small for {nodes} nodes, and some will not be reached; enlarge it: \
         {}",
        lacking.join(" ")
    ))
}

/// The hard limit; none where it cannot be seen.
fn limit(family: &str) -> Option<usize> {
    sysctl::get(&format!("net/{family}/neigh/default/gc_thresh3")).ok()?.parse().ok()
}

/// What to do where the limit is too low: four entries a node leave room for Pods and for garbage.
fn remedy(family: &str, limit: usize, nodes: usize) -> Option<String> {
    let enough = (nodes * 4).next_power_of_two();
    let key = format!("net.{family}.neigh.default.gc_thresh");
    (limit < nodes * 2)
        .then(|| format!("sysctl -w {key}3={enough} {key}2={} {key}1={};", enough / 2, enough / 8))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_table_must_hold_twice_the_nodes() {
        assert_eq!(remedy("ipv4", 1024, 512), None);
        let words = remedy("ipv4", 1024, 513).unwrap();
        let key = "net.ipv4.neigh.default.gc_thresh";
        assert_eq!(words, format!("sysctl -w {key}3=4096 {key}2=2048 {key}1=512;"));
        assert!(remedy("ipv6", 10_000, 5001).unwrap().contains("net.ipv6"));
    }

    #[test]
    fn few_nodes_need_no_look() {
        assert_eq!(check(Families { ipv4: true, ipv6: true }, 500), Finding::ok(""));
    }
}
