//! What a verb costs, counted: netlink datagrams, processes, and changes to files.
//!
//! Times depend on the machine and what else it does; these numbers do not. A change that raises
//! one has to say here what for.

use std::fs;
use std::path::Path;

use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::{LabError, Outcome, Result, bins};
use serde_json::{Value, json};

/// What a process did, by the system calls that it made.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    /// Requests sent to the kernel; some carry several messages.
    datagrams: usize,
    /// Programs executed, the plugin itself among them.
    programs: usize,
    /// Processes started.
    children: usize,
    /// Names made, replaced or removed in the folder of reservations.
    names: usize,
}

/// One host, one network, and the tool that counts.
struct Bench {
    node: Node,
    network: Network,
    strace: std::path::PathBuf,
}

impl Bench {
    fn new(keys: &Value) -> Result<Option<Bench>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(strace) = require::part(Part::Strace)? else { return Ok(None) };
        let node = Node::create("host")?;
        let mut plugin = json!({"type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "hairpinMode": true});
        for (key, value) in keys.as_object().into_iter().flatten() {
            plugin[key] = value.clone();
        }
        plugin["ipam"]["type"] = json!("host-local");
        plugin["ipam"]["dataDir"] = json!(node.data_dir());
        let list = json!({"cniVersion": "1.1.0", "name": "cbr0", "plugins": [plugin]});
        let bench = Bench { network: Network::from_value(&list)?, node, strace };
        // The first ADD makes what all share; its cost is nobody's.
        let first = Pod::create("first")?;
        bench.runtime()?.add(&bench.network, &first.attachment())?;
        Ok(Some(bench))
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.node, bins::plugin_dir()?))
    }

    fn cost(&self, verb: &str, attachment: &Attachment) -> Result<Cost> {
        let log = self.node.folder().join("strace");
        let options = [
            "-f",
            "-qq",
            "-e",
            "trace=sendto,sendmsg,execve,?clone,?clone3,?fork,?vfork,linkat,rename,renameat,renameat2,unlink,unlinkat",
            "-o",
        ];
        let words = [&*self.strace.to_string_lossy()]
            .into_iter()
            .chain(options)
            .chain([&*log.to_string_lossy()])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let call = self.runtime()?.call(&self.network, 0, verb, Some(attachment))?;
        let answer = call.under(words).run(&self.node)?;
        match answer.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb} under strace: {error}"))),
            None => Ok(count(&log)),
        }
    }
}

fn count(log: &Path) -> Cost {
    let log = fs::read_to_string(log).unwrap_or_default();
    let calls = |names: &[&str]| {
        let succeeded = |line: &&str| !line.contains(" = -1 ");
        let named = |line: &&str| names.iter().any(|name| line.contains(&format!(" {name}(")));
        log.lines().filter(succeeded).filter(named).count()
    };
    Cost {
        datagrams: calls(&["sendto", "sendmsg"]),
        programs: calls(&["execve"]),
        children: calls(&["clone", "clone3", "fork", "vfork"]),
        names: calls(&["linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat"]),
    }
}

fn assert_costs(keys: &Value, add: &Cost, del: &Cost) -> Outcome {
    let Some(bench) = Bench::new(keys)? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    assert_eq!(&bench.cost("ADD", &pod.attachment())?, add, "ADD with {keys}");
    assert_eq!(&bench.cost("DEL", &pod.attachment())?, del, "DEL with {keys}");
    Ok(())
}

#[test]
fn an_ipv4_container_costs_seven_datagrams() -> Outcome {
    let keys = json!({"ipam": {"subnet": "10.0.1.0/24"}});
    // Container: is the name free, configure, announce. Host: are our names free and is there a
    // bridge, its addresses, create and which index, marks and does the port forward.
    let add = Cost { datagrams: 7, programs: 1, children: 0, names: 1 };
    // Host: which of our names are there, delete (by a child). Container: is anything left.
    // Masquerading: has the owner a set. Checks of source addresses: the same. Reference plugin: are
    // there chains of its names.
    let del = Cost { datagrams: 6, programs: 1, children: 1, names: 1 };
    assert_costs(&keys, &add, &del)
}

#[test]
fn masquerading_costs_a_question_and_a_transaction_more() -> Outcome {
    let keys = json!({"ipMasq": true, "ipam": {"subnet": "10.0.1.0/24"}});
    // Is the network's chain there, and the transaction.
    let add = Cost { datagrams: 9, programs: 1, children: 0, names: 1 };
    // The set's keys, the one key's element, the transaction, and is the network's chain unused.
    let del = Cost { datagrams: 9, programs: 1, children: 1, names: 1 };
    assert_costs(&keys, &add, &del)
}

#[test]
fn the_cost_does_not_grow_with_the_containers_on_the_host() -> Outcome {
    let keys = json!({"ipMasq": true, "ipam": {"subnet": "10.0.1.0/24"}});
    let Some(bench) = Bench::new(&keys)? else { return Ok(()) };
    let pods =
        (0..20).map(|number| Pod::create(&format!("pod{number}"))).collect::<Result<Vec<_>>>()?;
    let costs =
        pods.iter().map(|pod| bench.cost("ADD", &pod.attachment())).collect::<Result<Vec<_>>>()?;
    assert!(costs.windows(2).all(|pair| pair[0] == pair[1]), "{costs:?}");
    Ok(())
}
