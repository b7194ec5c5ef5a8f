#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn row(pod_cidr: &str, state: State) -> Row {
    Row {
        node: "node2".into(),
        pod_cidr: pod_cidr.into(),
        via: None,
        device: None,
        vtep: None,
        unreachable: false,
        state,
        held_since: (state == State::Held).then(|| "then".into()),
        reason: (state == State::Refused).then(|| "taken".into()),
        detail: String::new(),
    }
}

fn snapshot(routes: Vec<Row>) -> Snapshot {
    let report = Report {
        node: "node1".into(),
        protocol: 214,
        source_error: None,
        source_error_since: None,
        notes: Vec::new(),
        problems: Vec::new(),
        routes,
        host_settings: Vec::new(),
        conflist: None,
        unreachable: Vec::new(),
    };
    Snapshot { synced: true, report: Some(Arc::new(report)), ..Snapshot::default() }
}

#[test]
fn ready_means_that_the_routes_are_there() {
    assert_eq!(Snapshot::default().unready().unwrap(), "the first sync is not done");
    let fine = [State::Ok, State::Own, State::Held, State::OffLink, State::Refused];
    let fine = fine.map(|state| row("10.0.2.0/24", state)).to_vec();
    assert_eq!(snapshot(fine.clone()).unready(), None);
    for state in [State::Missing, State::Conflict] {
        let mut rows = fine.clone();
        rows.push(row("10.0.9.0/24", state));
        assert_eq!(snapshot(rows).unready().unwrap(), format!("10.0.9.0/24 of node2: {state}"));
    }
}

#[test]
fn a_source_that_is_away_makes_nobody_unready() {
    let mut snapshot = snapshot(vec![row("10.0.2.0/24", State::Ok)]);
    snapshot.source_broken = Some(Instant::now());
    assert_eq!(snapshot.unready(), None);
}

#[test]
fn routes_are_counted_by_family() {
    let mut own = row("10.0.1.0/24", State::Own);
    own.unreachable = true;
    let rows = vec![
        own,
        row("10.0.2.0/24", State::Ok),
        row("10.0.3.0/24", State::Held),
        row("10.0.4.0/24", State::Missing),
        row("10.0.5.0/24", State::Conflict),
        row("10.0.6.0/24", State::OffLink),
        row("10.0.7.0/24", State::Refused),
        row("fd00:2::/64", State::Ok),
    ];
    let snapshot = snapshot(rows);
    assert_eq!(snapshot.count(false), Count { desired: 5, installed: 3, conflicts: 1 });
    assert_eq!(snapshot.count(true), Count { desired: 1, installed: 1, conflicts: 0 });
    assert_eq!(snapshot.held_nodes(), 1);
    assert_eq!(snapshot.claims(State::OffLink), 1);
    assert_eq!(snapshot.refused(), BTreeMap::from([("taken", 1)]));
}
