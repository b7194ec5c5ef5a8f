//! Claims that would hurt this node if they became routes.

use kernel::route::{self, Route, TABLE_MAIN};

use crate::lab::{Node, PROTOCOL, cidr, entries, entry, ip};

const STATIC: u8 = 4;
const SERVICES: [&str; 4] = ["--service-cidr", "10.96.0.0/16", "--service-cidr", "fd00:96::/112"];

/// A node with default routes and routes to services, as kube-proxy's peers have them.
fn node(list: &str) -> Node {
    let mut node = Node::new(list);
    for (destination, gateway) in [
        ("0.0.0.0/0", "10.100.0.254"),
        ("::/0", "fd00:100::254"),
        ("10.96.0.0/16", "10.100.0.253"),
        ("fd00:96::/112", "fd00:100::253"),
    ] {
        let route = Route::new(cidr(destination)).via(ip(gateway)).dev(node.uplink);
        node.rtnl.request(&route::add(&Route { protocol: STATIC, ..route })).unwrap();
    }
    node
}

/// All routes of the main table that are not ours.
fn others(node: &mut Node) -> Vec<Route> {
    let mut all = node.rtnl.routes(TABLE_MAIN).unwrap();
    all.retain(|route| route.protocol != PROTOCOL);
    all.sort_by_key(|route| format!("{route:?}"));
    assert!(all.len() >= 6, "{all:?}");
    all
}

#[test]
fn p18_hostile_claims_make_no_route_and_hinder_no_other() {
    let claims = [
        ("0.0.0.0/0", "refused(a default route is no Pod range)"),
        ("::/0", "refused(a default route is no Pod range)"),
        ("0.0.0.0/1", "refused(wider than /8)"),
        ("128.0.0.0/1", "refused(wider than /8)"),
        ("8000::/1", "refused(wider than /16)"),
        ("10.100.0.0/24", "refused(overlaps the subnet of local address 10.100.0.1/24)"),
        ("10.100.0.0/25", "refused(overlaps the subnet of local address 10.100.0.1/24)"),
        ("10.100.0.254/32", "refused(overlaps the subnet of local address 10.100.0.1/24)"),
        ("fd00:100::/96", "refused(overlaps the subnet of local address fd00:100::1/64)"),
        ("10.0.1.0/25", "refused(overlaps this node's own range 10.0.1.0/24)"),
        ("10.0.0.0/14", "refused(overlaps this node's own range 10.0.1.0/24)"),
        ("10.96.0.0/24", "refused(overlaps the service range 10.96.0.0/16)"),
        ("fd00:96::/112", "refused(overlaps the service range fd00:96::/112)"),
        ("127.0.0.0/8", "refused(overlaps 127.0.0.0/8, which is never a Pod range)"),
        ("224.0.0.0/8", "refused(overlaps 224.0.0.0/4, which is never a Pod range)"),
        ("fe80::/64", "refused(overlaps fe80::/10, which is never a Pod range)"),
        ("10.0.7.0/24", "ok"),
        ("10.0.7.128/25", "refused(overlaps 10.0.7.0/24 of bad, which comes first)"),
    ];
    let list: Vec<String> = claims.iter().map(|(cidr, _)| format!("{cidr:?}")).collect();
    let bad = format!(
        r#"{{"name": "bad", "addresses": ["10.100.0.7", "fd00:100::7"], "podCIDRs": [{}]}}"#,
        list.join(", ")
    );
    let far = r#"{"name": "far", "address": "192.0.2.1", "podCIDRs": ["10.0.8.0/24"]}"#;
    let mut node = node(&format!("[{bad}, {far}, {}, {}]", entry(1), entry(2)));
    let before = others(&mut node);
    let _daemon = node.start_with(&SERVICES);
    let routes =
        ["10.0.2.0/24 via 10.100.0.2", "10.0.7.0/24 via 10.100.0.7", "fd00:2::/64 via fd00:100::2"];
    assert_eq!(node.routes(), routes);
    let mut rows: Vec<String> =
        claims.iter().map(|(cidr, state)| format!("{cidr} {state}")).collect();
    rows.extend(["10.0.8.0/24 off-link", "10.0.1.0/24 own", "fd00:1::/64 own"].map(String::from));
    rows.extend(["10.0.2.0/24 ok", "fd00:2::/64 ok"].map(String::from));
    node.wait_for_status(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(node.status(&[]).status.code(), Some(1));
    assert_eq!(others(&mut node), before);

    // Nor when such claims go again, or when they come while the daemon runs.
    node.list(&format!("[{far}, {}, {}]", entry(1), entry(2)));
    node.wait_for_routes(&[routes[0], routes[2]]);
    node.list(&format!("[{bad}, {far}, {}, {}]", entry(1), entry(2)));
    node.wait_for_routes(&routes);
    assert_eq!(others(&mut node), before);
}

#[test]
fn p18_gateways_that_cannot_be_make_no_route() {
    let gateways = [
        ("10.100.0.1", "gateway 10.100.0.1 is this node's own address (is --node right?)"),
        ("127.0.0.1", "gateway 127.0.0.1 is not a unicast address of a neighbour"),
        ("169.254.0.9", "gateway 169.254.0.9 is not a unicast address of a neighbour"),
        ("224.0.0.9", "gateway 224.0.0.9 is not a unicast address of a neighbour"),
        ("10.0.14.9", "gateway 10.0.14.9 lies in the range itself"),
        ("fd00:100::9", "the node has no IPv4 address"),
    ];
    let nodes: Vec<String> = gateways
        .iter()
        .zip(10u8..)
        .map(|((gateway, _), number)| {
            format!(
                r#"{{"name": "bad{number}", "address": "{gateway}",
                     "podCIDRs": ["10.0.{number}.0/24"]}}"#
            )
        })
        .collect();
    let mut node = node(&format!("[{}, {}, {}]", nodes.join(", "), entry(1), entry(2)));
    let before = others(&mut node);
    let _daemon = node.start_with(&SERVICES);
    let mut rows: Vec<String> = gateways
        .iter()
        .zip(10u8..)
        .map(|((_, why), number)| format!("10.0.{number}.0/24 refused({why})"))
        .collect();
    rows.extend(["10.0.1.0/24 own", "fd00:1::/64 own"].map(String::from));
    rows.extend(["10.0.2.0/24 ok", "fd00:2::/64 ok"].map(String::from));
    node.wait_for_status(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(node.routes(), ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"]);
    assert_eq!(others(&mut node), before);
}

#[test]
fn p18_claims_beyond_the_limit_or_the_cluster_make_no_route_and_cost_none() {
    let mut node = node(&entries(&[1, 2]));
    let before = others(&mut node);
    let _daemon = node.start_with(&["--max-routes", "2"]);
    let routes = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];
    assert_eq!(node.routes(), routes);
    let mut monitor = node.monitor();
    let outside = entry(4).replace("10.0.4.0", "10.4.4.0");
    node.list(&format!("[{}, {}, {outside}, {}]", entry(1), entry(3), entry(2)));
    let too_many = "refused(there are 2 routes already; --max-routes allows no more)";
    node.wait_for_status(&[
        "10.0.1.0/24 own",
        "fd00:1::/64 own",
        &format!("10.0.3.0/24 {too_many}"),
        &format!("fd00:3::/64 {too_many}"),
        "10.4.4.0/24 refused(not in the cluster: no --cluster-cidr covers it)",
        &format!("fd00:4::/64 {too_many}"),
        "10.0.2.0/24 ok",
        "fd00:2::/64 ok",
    ]);
    // When one has gone, there is room for another.
    node.list(&format!("[{}, {}, {outside}]", entry(1), entry(3)));
    node.wait_for_routes(&["10.0.3.0/24 via 10.100.0.3", "fd00:3::/64 via fd00:100::3"]);
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    writes.sort();
    assert_eq!(writes, ["+10.0.3.0/24", "+fd00:3::/64", "-10.0.2.0/24", "-fd00:2::/64"]);
    assert_eq!(others(&mut node), before);
}
