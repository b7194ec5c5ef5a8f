//! Who reaches whom, and as whom.

use std::net::IpAddr;

use cbr0_tests::probe::{self, Source};
use cbr0_tests::topology::DualStack;
use kernel::NetNs;

/// What somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A Pod.
    Pod,
    /// A node of the cluster.
    Node,
    /// A host that knows nothing of Pods.
    Outside,
}

/// Somebody who calls and is called.
pub(crate) struct Party<'a> {
    /// What it is called.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// The addresses it has: one a family, IPv4 first, or in IPv4 alone.
    pub(crate) addresses: Vec<IpAddr>,
    /// The addresses of its node, which its calls to the outside must come from.
    pub(crate) node: DualStack<IpAddr>,
    /// Where it calls from.
    pub(crate) netns: &'a NetNs,
}

/// What came of all the calls.
pub(crate) struct Matrix {
    pub(crate) rows: Vec<Row>,
}

/// All calls of one party in one family.
pub(crate) struct Row {
    pub(crate) caller: String,
    pub(crate) own: IpAddr,
    pub(crate) calls: Vec<Call>,
}

/// One call.
pub(crate) struct Call {
    pub(crate) called: String,
    pub(crate) kind: Kind,
    /// The source address that the other end saw; none if there was no connection.
    pub(crate) seen: Option<IpAddr>,
    /// What was not as promised.
    pub(crate) broken: Option<String>,
}

impl Matrix {
    /// Has every Pod call everybody, and every node every Pod, in each family that the Pods have.
    pub(crate) fn of(parties: &[Party<'_>]) -> Self {
        let callers = || parties.iter().filter(|party| party.kind != Kind::Outside);
        let rows =
            (0..2).flat_map(|family| callers().filter_map(move |from| row(from, parties, family)));
        Matrix { rows: rows.collect() }
    }

    /// How many calls there were, and how many were as promised.
    pub(crate) fn count(&self) -> (usize, usize) {
        let calls = || self.rows.iter().flat_map(|row| &row.calls);
        (calls().count(), calls().filter(|call| call.broken.is_none()).count())
    }
}

/// What came of one party's calls in one family; none if it has nobody to call there.
fn row(caller: &Party<'_>, parties: &[Party<'_>], family: usize) -> Option<Row> {
    let own = *caller.addresses.get(family)?;
    let called = parties.iter().filter(|called| calls(caller, called));
    let calls: Vec<_> = called.filter_map(|called| call(caller, called, family)).collect();
    (!calls.is_empty()).then(|| Row { caller: caller.name.clone(), own, calls })
}

/// None if the called has no address in the family.
fn call(caller: &Party<'_>, called: &Party<'_>, family: usize) -> Option<Call> {
    let (seen, broken) = match probe::call(caller.netns, *called.addresses.get(family)?) {
        Ok(source) => (Some(source.seen), broken_promise(caller, called, family, source)),
        Err(error) => (None, Some(error.to_string())),
    };
    Some(Call { called: called.name.clone(), kind: called.kind, seen, broken })
}

/// Nobody calls itself. Calls among nodes, and of nodes to the outside, are not ours to prove.
fn calls(caller: &Party<'_>, called: &Party<'_>) -> bool {
    caller.name != called.name && (caller.kind == Kind::Pod || called.kind == Kind::Pod)
}

/// Inside the cluster nobody translates addresses: the other end sees what the caller's own socket
/// says, and for a Pod that is the Pod's address. Outside, a Pod looks like its node.
fn broken_promise(
    caller: &Party<'_>,
    called: &Party<'_>,
    family: usize,
    source: Source,
) -> Option<String> {
    let own = match caller.kind {
        Kind::Pod => caller.addresses[family],
        // A node has several addresses and chooses.
        Kind::Node | Kind::Outside => source.own,
    };
    let promised = if called.kind == Kind::Outside { caller.node[family] } else { own };
    (source.seen != promised).then(|| format!("it saw {}, not {promised}", source.seen))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn party(netns: &NetNs, name: &str, kind: Kind, own: &str, node: &str) -> Party<'static> {
        let both = |address: &str| [address.parse().unwrap(), "::".parse().unwrap()];
        // The namespace is not entered here.
        let netns = Box::leak(Box::new(NetNs::open(&netns.path()).unwrap()));
        Party { name: name.to_owned(), kind, addresses: both(own).into(), node: both(node), netns }
    }

    #[test]
    fn promises() {
        let here = NetNs::current().unwrap();
        let pod = party(&here, "pod", Kind::Pod, "10.0.1.2", "10.100.0.2");
        let node = party(&here, "node", Kind::Node, "10.100.0.2", "10.100.0.2");
        let outside = party(&here, "outside", Kind::Outside, "192.0.2.10", "192.0.2.10");
        let source = |own: &str, seen: &str| Source {
            own: own.parse().unwrap(),
            seen: seen.parse().unwrap(),
        };
        let holds = |from, to, source| broken_promise(from, to, 0, source).is_none();

        assert!(holds(&pod, &node, source("10.0.1.2", "10.0.1.2")));
        assert!(!holds(&pod, &node, source("10.0.1.2", "10.100.0.2")));
        assert!(!holds(&pod, &node, source("10.0.1.9", "10.0.1.9")));
        assert!(holds(&pod, &outside, source("10.0.1.2", "10.100.0.2")));
        assert!(!holds(&pod, &outside, source("10.0.1.2", "10.0.1.2")));
        assert!(holds(&node, &pod, source("10.0.1.1", "10.0.1.1")));
        assert!(!holds(&node, &pod, source("10.0.1.1", "10.100.0.2")));
    }
}
