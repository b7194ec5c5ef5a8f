//! Who reaches whom, and as whom.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use cbr0_tests::Result;
use cbr0_tests::probe::{self, Source};
use cbr0_tests::topology::DualStack;
use kernel::NetNs;

/// What somebody is; the order is that of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The addresses it has.
    pub(crate) addresses: DualStack<IpAddr>,
    /// The addresses of its node, which its calls to the outside must come from.
    pub(crate) node: DualStack<IpAddr>,
    /// Where it calls from.
    pub(crate) netns: &'a NetNs,
}

/// What came of all the calls.
pub(crate) struct Matrix {
    rows: Vec<Row>,
}

/// All calls of one party in one family.
struct Row {
    caller: String,
    own: IpAddr,
    columns: BTreeMap<Kind, Column>,
}

/// Its calls to one kind of parties.
#[derive(Default)]
struct Column {
    calls: usize,
    /// How many came from which address, by what the other ends saw.
    seen: BTreeMap<IpAddr, usize>,
    /// A line for each call that was not as promised.
    broken: Vec<String>,
}

impl Matrix {
    /// Has every Pod call everybody, and every node every Pod, in both families.
    pub(crate) fn of(parties: &[Party<'_>]) -> Self {
        let callers = || parties.iter().filter(|party| party.kind != Kind::Outside);
        let rows =
            (0..2).flat_map(|family| callers().map(move |caller| row(caller, parties, family)));
        Matrix { rows: rows.collect() }
    }

    /// How many calls there were, and how many were as promised.
    pub(crate) fn count(&self) -> (usize, usize) {
        let columns = || self.rows.iter().flat_map(|row| row.columns.values());
        let calls = columns().map(|column| column.calls).sum();
        let broken: usize = columns().map(|column| column.broken.len()).sum();
        (calls, calls - broken)
    }
}

fn row(caller: &Party<'_>, parties: &[Party<'_>], family: usize) -> Row {
    let mut columns = BTreeMap::<Kind, Column>::new();
    for called in parties.iter().filter(|called| calls(caller, called)) {
        let source = probe::call(caller.netns, called.addresses[family]);
        columns.entry(called.kind).or_default().add(caller, called, family, source);
    }
    Row { caller: caller.name.clone(), own: caller.addresses[family], columns }
}

/// Nobody calls itself. Calls among nodes, and of nodes to the outside, are not ours to prove.
fn calls(caller: &Party<'_>, called: &Party<'_>) -> bool {
    caller.name != called.name && (caller.kind == Kind::Pod || called.kind == Kind::Pod)
}

impl Column {
    fn add(
        &mut self,
        caller: &Party<'_>,
        called: &Party<'_>,
        family: usize,
        source: Result<Source>,
    ) {
        self.calls += 1;
        let broken = match source {
            Ok(source) => {
                *self.seen.entry(source.seen).or_default() += 1;
                broken_promise(caller, called, family, source)
            }
            Err(error) => Some(error.to_string()),
        };
        self.broken.extend(broken.map(|why| format!("{} -> {}: {why}", caller.name, called.name)));
    }
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

impl fmt::Display for Matrix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ipv4 in [true, false] {
            let rows = self.rows.iter().filter(|row| row.own.is_ipv4() == ipv4);
            let heading = ["caller", "its address", "Pods saw", "nodes saw", "outside saw"];
            let heading = heading.map(str::to_owned);
            let lines: Vec<_> = [heading].into_iter().chain(rows.map(Row::cells)).collect();
            write_table(out, &lines)?;
            writeln!(out)?;
        }
        let columns = self.rows.iter().flat_map(|row| row.columns.values());
        columns
            .flat_map(|column| &column.broken)
            .try_for_each(|line| writeln!(out, "BROKEN {line}"))
    }
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let column = |kind| self.columns.get(&kind).map(Column::summary).unwrap_or_default();
        let [pods, nodes, outside] = [Kind::Pod, Kind::Node, Kind::Outside].map(column);
        [self.caller.clone(), self.own.to_string(), pods, nodes, outside]
    }
}

impl Column {
    fn summary(&self) -> String {
        let seen = self.seen.iter().map(|(address, times)| format!("{times}x {address}"));
        let broken = (!self.broken.is_empty()).then(|| format!("{} BROKEN", self.broken.len()));
        seen.chain(broken).collect::<Vec<_>>().join(", ")
    }
}

/// As wide as the widest cell of each column asks for.
fn write_table<const N: usize>(out: &mut fmt::Formatter<'_>, lines: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn party(netns: &NetNs, name: &str, kind: Kind, own: &str, node: &str) -> Party<'static> {
        let both = |address: &str| [address.parse().unwrap(), "::".parse().unwrap()];
        // The namespace is not entered here.
        let netns = Box::leak(Box::new(NetNs::open(&netns.path()).unwrap()));
        Party { name: name.to_owned(), kind, addresses: both(own), node: both(node), netns }
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
