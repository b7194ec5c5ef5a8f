//! Leases that flannel wrote, and what is no lease at all.

use cbr0_tests::{Outcome, require};
use serde_json::Value;

use crate::fixture::{Lab, range_of, states, tells};

#[test]
fn p16_flannels_leases_are_routed_and_ours_are_read_by_its_rules() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    // As flannel's documentation has them, and in dual stack.
    lab.put(
        "subnets/10.1.5.0-24",
        r#"{"PublicIP":"10.100.0.5","PublicIPv6":null,"BackendType":"host-gw"}"#,
    )?;
    lab.put(
        "subnets/10.1.6.0-24&fd00:6::-64",
        r#"{"PublicIP":"10.100.0.6","PublicIPv6":"fd00:100::6","BackendType":"host-gw","BackendData":null}"#,
    )?;
    let _daemon = lab.start(1)?;
    lab.wait_for_rows(1, &["node1 own", "10.100.0.5 ok", "10.100.0.6 ok", "10.100.0.6 ok"])?;
    let routes = lab.routes(1)?;
    let expected =
        ["10.1.5.0/24 via 10.100.0.5", "10.1.6.0/24 via 10.100.0.6", "fd00:6::/64 via fd00:100::6"];
    assert_eq!(routes, expected);
    // What ours looks like to flannel: its key, and the four fields that it reads.
    let answer = lab.etcd.ctl(&["get", "--prefix", "/coreos.com/network/subnets/10.0"])?;
    let (key, value) = answer.trim().split_once('\n').unwrap();
    let name = key.rsplit('/').next().unwrap();
    let (address, length) = name.split_once('-').unwrap();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok() && length == "24", "{key}");
    let value: Value = serde_json::from_str(value).unwrap();
    assert_eq!(value["PublicIP"], "10.100.0.2");
    assert_eq!(value["BackendType"], "host-gw");
    Ok(())
}

#[test]
fn p11_what_is_malformed_is_skipped_and_counted_and_changes_nothing_else() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let _daemons = [lab.start(1)?, lab.start(2)?];
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    let mut deletions = lab.deletions(1)?;
    for (key, value) in [
        ("junk", "{}"),
        ("10.1.5.0-24", "not JSON"),
        (
            "10.1.6.0-24",
            r#"{"PublicIP":"10.100.0.6","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:00:00:00:00:06"}}"#,
        ),
        ("192.168.0.0-24", r#"{"PublicIP":"10.100.0.7","BackendType":"host-gw"}"#),
    ] {
        lab.put(&format!("subnets/{key}"), value)?;
    }
    // Nearly as long as etcd takes; a lease but for that.
    let long = "x".repeat(1 << 20);
    let long = format!(r#"{{"PublicIP":"10.100.0.8","BackendType":"host-gw","Long":"{long}"}}"#);
    lab.put_long("subnets/10.1.8.0-24", &long)?;
    let status = lab.wait(1, "skipped", |status| tells(status, "5 leases are skipped"))?;
    assert_eq!(states(&status), ["node1 own", "node2 ok"]);
    // Beside all that, others are heard of as ever.
    let third = lab.start(3)?;
    let status = lab.wait_for_rows(1, &["node1 own", "node2 ok", "node3 ok"])?;
    assert!(tells(&status, "5 leases are skipped"), "{status:#}");
    // What was a lease and is none any more says nothing of its node.
    third.kill();
    let range = range_of(&status, "node3").replace('/', "-");
    lab.put(&format!("subnets/{range}"), "not JSON")?;
    let status = lab.wait(1, "skipped", |status| tells(status, "6 leases are skipped"))?;
    assert_eq!(states(&status), ["node1 own", "node2 ok", "node3 held"]);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn p16_flannels_tunnels_are_used_and_ours_are_told_as_flannel_does() -> Outcome {
    if !require::link_kind("vxlan")? {
        return Ok(());
    }
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    // As flannel's documentation has it; behind the router.
    lab.put(
        "subnets/10.1.7.0-24",
        r#"{"PublicIP":"10.101.0.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:00:00:00:00:07"}}"#,
    )?;
    let _tunnelling = lab.start_with(1, &["--off-link", "vxlan"])?;
    lab.wait_for_rows(1, &["node1 own", "10.101.0.7 ok"])?;
    assert_eq!(lab.routes(1)?, ["10.1.7.0/24 via 10.1.7.0"]);
    let mut rtnl = lab.node(1).rtnl()?;
    let device = rtnl.link_by_name("cbr0-vxlan")?.unwrap();
    let entry = rtnl.forwarding_entries(device.index)?.pop().unwrap();
    assert_eq!(
        (entry.mac.to_string(), entry.remote),
        ("c6:00:00:00:00:07".into(), [10, 101, 0, 7].into())
    );

    let answer = lab.etcd.ctl(&["get", "--prefix", "/coreos.com/network/subnets/10.0"])?;
    let (_, value) = answer.trim().split_once('\n').unwrap();
    let value: Value = serde_json::from_str(value).unwrap();
    assert_eq!(value["BackendType"], "vxlan");
    let mac = device.mac.unwrap().to_string();
    assert_eq!(value["BackendData"], serde_json::json!({"VNI": 1, "VtepMAC": mac}));

    // Without a tunnel flannel's is shown and left out, and ours on the same link is a route.
    let _direct = lab.start(2)?;
    let status = lab.wait(2, "skipped", |status| tells(status, "--off-link vxlan"))?;
    assert!(states(&status).contains(&"node1 ok".to_owned()), "{status:#}");
    lab.wait_for_rows(1, &["node1 own", "node2 ok", "10.101.0.7 ok"])?;
    Ok(())
}
