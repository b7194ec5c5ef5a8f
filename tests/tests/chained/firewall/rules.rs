//! The rules among those of others.

use std::sync::Mutex;
use std::thread;

use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::Network;
use cbr0_tests::{Outcome, Result};
use serde_json::{Value, json};

use super::fixture::{Answering, Host, assert_same};

/// What Docker, kube-proxy and firewalld make at the same hooks, in their shapes.
const OF_OTHERS: &str = "
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname \"lo\" accept
    }
}
table ip kube-proxy {
    set cluster-ips { type ipv4_addr; elements = { 10.96.0.1 } }
    chain filter-forward {
        type filter hook forward priority -110; policy accept;
        ct state new ip daddr @cluster-ips reject
    }
}
table bridge guard {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ether saddr 02:00:00:00:00:77 drop
    }
}
";

fn docker(host: &Host) -> Result<()> {
    for rule in [
        &["-N", "DOCKER-USER"][..],
        &["-N", "DOCKER-FORWARD"],
        &["-A", "FORWARD", "-j", "DOCKER-USER"],
        &["-A", "FORWARD", "-j", "DOCKER-FORWARD"],
        &[
            "-A",
            "DOCKER-FORWARD",
            "-o",
            "docker0",
            "-m",
            "conntrack",
            "--ctstate",
            "RELATED,ESTABLISHED",
            "-j",
            "ACCEPT",
        ],
        &["-A", "DOCKER-FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT"],
        &["-A", "DOCKER-USER", "-j", "RETURN"],
    ] {
        host.iptables("iptables-nft", rule)?;
    }
    Ok(())
}

#[test]
fn what_is_saved_differs_by_the_intended_lines_and_restores_equal() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    docker(&host)?;
    let before = host.saved()?;
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({}));
    let one = Answering::add(&mut runtime, &network, "one")?;
    let saved = host.saved()?;
    let intended = [
        ":CNI-ADMIN -",
        ":CNI-FORWARD -",
        "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
        "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
        "-A CNI-FORWARD -d 10.0.1.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A CNI-FORWARD -s 10.0.1.2/32 -j ACCEPT",
        ":CNI-ADMIN -",
        ":CNI-FORWARD -",
        "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
        "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
        "-A CNI-FORWARD -d fd00:0:0:1::2/128 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A CNI-FORWARD -s fd00:0:0:1::2/128 -j ACCEPT",
    ];
    let mut left = before.iter().peekable();
    let added: Vec<_> =
        saved.iter().filter(|line| left.next_if(|next| next == line).is_none()).collect();
    assert_eq!(added, intended);
    assert_eq!(left.next(), None);
    let first = saved.iter().find(|line| line.starts_with("-A FORWARD"));
    assert!(first.is_some_and(|line| line.ends_with("CNI-FORWARD")), "{first:?}");

    for family in ["iptables-nft", "ip6tables-nft"] {
        let text = host.iptables(&format!("{family}-save"), &[])?;
        host.restore(&format!("{family}-restore"), &text)?;
    }
    assert_eq!(host.saved()?, saved, "restored");
    // The rules have lost their owner's mark, but not their owner.
    runtime.check(&network, &one.pod.attachment())?;
    let two = Answering::add(&mut runtime, &network, "two")?;
    runtime.del(&network, &one.pod.attachment())?;
    runtime.check(&network, &two.pod.attachment())?;
    runtime.del(&network, &two.pod.attachment())?;
    assert_eq!(host.pod_rules()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn rules_of_others_are_not_touched() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    host.nft(&["-f", "-"], OF_OTHERS)?;
    docker(&host)?;
    let network = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let pod = Pod::create("warm-up")?;
    let mut runtime = host.ours()?;
    let before = host.ruleset()?;
    runtime.add(&network, &pod.attachment())?;
    let with_pod = host.ruleset()?;
    assert!(
        before.difference(&with_pod).next().is_none(),
        "lost {:?}",
        before.difference(&with_pod)
    );
    runtime.del(&network, &pod.attachment())?;
    let after = host.ruleset()?;
    assert!(before.is_subset(&after));
    runtime.add(&network, &pod.attachment())?;
    runtime.gc(&network, &[])?;
    assert_same(&after, &host.ruleset()?, "ADD and GC");
    Ok(())
}

/// Without tables of iptables, all that there is can be loaded again.
#[test]
fn a_listing_loads_again() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let one = Answering::add(&mut runtime, &network, "one")?;
    let listing = host.nft(&["list", "ruleset"], "")?;
    host.nft(&["-f", "-"], &format!("flush ruleset\n{listing}"))?;
    assert_eq!(host.nft(&["list", "ruleset"], "")?, listing);
    runtime.check(&network, &one.pod.attachment())?;
    runtime.del(&network, &one.pod.attachment())?;
    assert_eq!(host.owned()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn sixty_four_at_once_make_no_duplicate_and_no_failure() -> Outcome {
    const AT_ONCE: u8 = 64;
    let Some(host) = Host::closed()? else { return Ok(()) };
    let bridge = Answering::add(&mut host.ours()?, &host.bridge(1), "bridge")?;
    let pods: Vec<_> =
        (0..AT_ONCE).map(|number| Pod::create(&format!("pod{number}"))).collect::<Result<_>>()?;
    let result = |number: usize| -> Value {
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "br1"}],
            "ips": [
                {"address": format!("10.0.1.{}/24", number + 100)},
                {"address": format!("fd00:0:0:1::{}/64", number + 100)},
            ],
        })
    };
    let all = |network: &Network, verb: &str| -> Result<()> {
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for (number, pod) in pods.iter().enumerate() {
                let (host, failures, result) = (&host, &failures, &result);
                scope.spawn(move || {
                    let call = host.call(network, verb, pod, &result(number));
                    let answer = call.and_then(|call| call.run(&host.node));
                    if !matches!(&answer, Ok(answer) if answer.code == Some(0)) {
                        failures.lock().unwrap().push(format!("{number}: {answer:?}"));
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{verb}: {failures:#?}");
        Ok(())
    };
    for round in 0..4 {
        // Chains that are missing are made once; in other rounds only the ways to them are missing.
        let policy = if round % 2 == 0 { "same-bridge" } else { "open" };
        let network = host.network(1, &json!({"ingressPolicy": policy}));
        all(&network, "ADD")?;
        let mut rules = host.saved()?;
        rules.retain(|line| line.starts_with("-A"));
        assert_eq!(rules.len(), 2 * (2 + 2 * usize::from(AT_ONCE)));
        rules.sort();
        rules.dedup();
        // The way to the chains is the same in both families.
        assert_eq!(rules.len(), 2 + 4 * usize::from(AT_ONCE));
        all(&network, "CHECK")?;
        all(&network, "DEL")?;
        assert_eq!(host.pod_rules()?, Vec::<String>::new());
        assert_eq!(host.owned()?, Vec::<String>::new());
        for family in ["iptables-nft", "ip6tables-nft"] {
            host.iptables(family, &["-F"])?;
            if round % 2 == 1 {
                host.iptables(family, &["-X"])?;
            }
        }
    }
    drop(bridge);
    Ok(())
}
