//! What a verb costs does not depend on how many addresses are held, counted in file operations.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cbr0_tests::error::Context;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result};
use serde_json::json;

use crate::fixture::{Holder, Lab, Network, Request, ensure};

/// The system calls that look at files or change them. A kernel need not have all of them.
const COUNTED: [&str; 22] = [
    "open",
    "openat",
    "openat2",
    "read",
    "pread64",
    "readv",
    "write",
    "pwrite64",
    "writev",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "getdents64",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "lseek",
];

/// How often each was made.
type Cost = BTreeMap<String, usize>;

/// A network that holds many addresses, and the tool that counts.
struct Bench {
    lab: Lab,
    strace: PathBuf,
    network: Network,
}

impl Bench {
    /// The first addresses of the range are held, without a gap.
    fn new(held: usize) -> Result<Option<Self>> {
        let Some(lab) = Lab::new()? else { return Ok(None) };
        let Some(strace) = require::part(Part::Strace)? else { return Ok(None) };
        let bench =
            Bench { lab, strace, network: Network::new(&json!({"subnet": "10.1.0.0/16"}))? };
        for number in 0..held {
            let (high, low) = ((number + 2) / 256, (number + 2) % 256);
            let holder = Holder::eth0(&format!("held{number}"));
            bench.network.write(&format!("10.1.{high}.{low}"), holder.contents())?;
        }
        // Others have changed the directory: the first call may look at everything.
        let warm_up = Holder::eth0("warm-up");
        bench.cost(&Request::add(&warm_up))?;
        bench.cost(&Request::del(&warm_up))?;
        Ok(Some(bench))
    }

    fn cost(&self, request: &Request) -> Result<Cost> {
        let log = tempfile::NamedTempFile::new().context(|| "make a temporary file".to_owned())?;
        let path = log.path().to_string_lossy().into_owned();
        let trace = format!("trace={}", COUNTED.map(|name| format!("?{name}")).join(","));
        let strace = self.strace.to_string_lossy();
        let words = [&*strace, "-f", "-qq", "-e", &trace, "-o", &path].map(str::to_owned);
        let call = self.network.call(&self.lab.ours, request).under(words);
        let answer = self.lab.run(&call)?;
        ensure(answer.failure().is_none(), || format!("{request:?}: {answer:?}"))?;

        let log = fs::read_to_string(&path).context(|| format!("read {path}"))?;
        let mut cost = Cost::new();
        // "4711 openat(AT_FDCWD, ..."
        let calls = log.lines().filter_map(|line| line.split_whitespace().nth(1));
        for (name, _) in calls.filter_map(|call| call.split_once('(')) {
            *cost.entry(name.to_owned()).or_default() += 1;
        }
        Ok(cost)
    }

    /// What each verb costs, for a container that comes and goes and for one that was there.
    fn costs(&self) -> Result<Vec<(&'static str, Cost)>> {
        let (new, held) = (Holder::eth0("new"), Holder::eth0("held7"));
        let requests = [
            ("ADD", Request::add(&new)),
            ("CHECK", Request::new("CHECK", &new)),
            ("STATUS", Request::new("STATUS", &new)),
            ("DEL", Request::del(&new)),
            ("a second DEL", Request::del(&new)),
            ("CHECK of an old one", Request::new("CHECK", &held)),
            ("DEL of an old one", Request::del(&held)),
        ];
        requests.into_iter().map(|(what, request)| Ok((what, self.cost(&request)?))).collect()
    }
}

/// Asserts that `costs` are the same at ten and at many held addresses.
fn assert_flat(costs: impl Fn(&Bench) -> Result<Vec<(&'static str, Cost)>>) -> Result<()> {
    let Some(few) = Bench::new(10)? else { return Ok(()) };
    let few = costs(&few)?;
    let calls: usize = few[0].1.values().sum();
    assert!(calls > 10, "strace saw only {few:?}");
    for held in [1_000, 10_000] {
        let Some(many) = Bench::new(held)? else { return Ok(()) };
        assert_eq!(costs(&many)?, few, "at {held} held addresses, and at 10");
    }
    Ok(())
}

#[test]
fn file_operations_are_the_same_at_ten_and_at_ten_thousand_addresses() -> Outcome {
    Ok(assert_flat(Bench::costs)?)
}

/// The round begins anew, and the next free address is behind all that are held.
#[test]
fn to_find_a_free_address_behind_many_held_ones_costs_no_more() -> Outcome {
    Ok(assert_flat(|bench| {
        // Written in place, as the reference does: the directory does not change.
        bench.network.write("last_reserved_ip.0", "10.1.0.1")?;
        Ok(vec![("ADD", bench.cost(&Request::add(&Holder::eth0("new")))?)])
    })?)
}
