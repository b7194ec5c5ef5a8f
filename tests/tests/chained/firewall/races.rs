//! Others that come in between: one call stands still behind each of its requests in turn, while another
//! runs from its beginning to its end.

use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result};
use kernel::MacAddress;
use kernel::link::Bridge;
use serde_json::{Value, json};

use super::fixture::Host;

/// A closed host with a bridge, and two Pods on it as far as the plugin is told.
struct Scene {
    host: Host,
    pods: [Pod; 2],
}

impl Scene {
    fn new() -> Result<Option<Scene>> {
        let Some(host) = Host::closed()? else { return Ok(None) };
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        host.node.rtnl()?.request(&Bridge { name: "br1", mac, mtu: None }.create())?;
        Ok(Some(Scene { host, pods: [Pod::create("one")?, Pod::create("other")?] }))
    }

    fn call(&self, verb: &str, pod: usize) -> Result<Call> {
        let network = self.host.network(1, &json!({"ingressPolicy": "same-bridge"}));
        let result = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "br1"}],
            "ips": [
                {"address": format!("10.0.1.{}/24", pod + 5)},
                {"address": format!("fd00:0:0:1::{}/64", pod + 5)},
            ],
        });
        let result = if verb == "DEL" { Value::Null } else { result };
        self.host.call(&network, verb, &self.pods[pod], &result)
    }

    fn succeed(&self, verb: &str, pod: usize) -> Result<()> {
        match self.call(verb, pod)?.run(&self.host.node)?.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb} of Pod {pod}: {error}"))),
            None => Ok(()),
        }
    }

    /// All rules in the tables of iptables, of both families.
    fn rules(&self) -> Result<Vec<String>> {
        let mut rules = self.host.saved()?;
        rules.retain(|line| line.starts_with("-A"));
        Ok(rules)
    }
}

/// Runs the call of the first Pod, which stands still behind each of its requests, and that of the other
/// in between; each time on a host where `before` was done.
fn race(
    before: impl Fn(&Scene) -> Result<()> + Sync,
    [paused, between]: [&str; 2],
    then: impl Fn(&Scene, &str) -> Result<()> + Sync,
) -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let Some(strace) = Strace::find()? else { return Ok(()) };
    before(&scene)?;
    let (answer, mut turns) = strace.syscalls(scene.call(paused, 0)?, &scene.host.node)?;
    assert_eq!(answer.failure(), None);
    turns.retain(|it: &Syscall| ["sendto", "sendmsg"].contains(&it.name.as_str()));
    assert!(turns.len() > 4, "{turns:?}");
    strace::for_each(&turns, |turn| {
        let Some(scene) = Scene::new()? else { return Ok(()) };
        before(&scene)?;
        let case = format!("{paused} behind {} {}", turn.name, turn.turn);
        let call = strace.pause_behind(turn, scene.call(paused, 0)?, &scene.host.node)?;
        assert!(call.is_stopped(), "{case}: it has fewer requests");
        scene.succeed(between, 1)?;
        assert_eq!(call.resume()?.failure(), None, "{case}");
        then(&scene, &case)
    })?;
    Ok(())
}

/// Two Pods have their rules, and the ways to them are there once.
fn both_pass(scene: &Scene, case: &str) -> Result<()> {
    let rules = scene.rules()?;
    assert_eq!(rules.len(), 2 * (2 + 2 * 2), "{case}: {rules:#?}");
    for pod in [0, 1] {
        scene.succeed("CHECK", pod)?;
    }
    for pod in [0, 1] {
        scene.succeed("DEL", pod)?;
    }
    nothing_left(scene, case)
}

fn nothing_left(scene: &Scene, case: &str) -> Result<()> {
    assert_eq!(scene.host.pod_rules()?, Vec::<String>::new(), "{case}");
    assert_eq!(scene.host.owned()?, Vec::<String>::new(), "{case}");
    Ok(())
}

#[test]
fn the_first_two_adds_make_what_they_share_once() -> Outcome {
    race(|_| Ok(()), ["ADD", "ADD"], both_pass)
}

/// Somebody has emptied the tables: the chains are there, and the ways to them are not.
#[test]
fn two_adds_make_the_ways_to_the_chains_once() -> Outcome {
    let emptied = |scene: &Scene| {
        for verb in ["ADD", "DEL"] {
            scene.succeed(verb, 0)?;
        }
        for program in ["iptables-nft", "ip6tables-nft"] {
            scene.host.iptables(program, &["-F"])?;
        }
        Ok(())
    };
    race(emptied, ["ADD", "ADD"], both_pass)
}

/// The chain of a bridge goes with its last Pod, but not from under the next one.
#[test]
fn the_last_pod_of_a_bridge_may_leave_while_another_comes() -> Outcome {
    let only = |scene: &Scene, case: &str| {
        scene.succeed("CHECK", 1)?;
        scene.succeed("DEL", 1)?;
        nothing_left(scene, case)
    };
    race(|scene| scene.succeed("ADD", 0), ["DEL", "ADD"], only)?;
    let only = |scene: &Scene, case: &str| {
        scene.succeed("CHECK", 0)?;
        scene.succeed("DEL", 0)?;
        nothing_left(scene, case)
    };
    race(|scene| scene.succeed("ADD", 1), ["ADD", "DEL"], only)
}

#[test]
fn the_last_two_pods_of_a_bridge_may_leave_at_once() -> Outcome {
    let both = |scene: &Scene| {
        scene.succeed("ADD", 0)?;
        scene.succeed("ADD", 1)
    };
    race(both, ["DEL", "DEL"], nothing_left)
}
