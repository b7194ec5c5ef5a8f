//! A node may go from the reference's `host-local` to ours and back, or use both, at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Outcome, Result};
use serde_json::{Value, json};

use crate::fixture::{DUPLICATE, FULL, Holder, Lab, Network, Request, ensure, given, reference};

/// Both plugins, by turns.
struct Both {
    lab: Lab,
    reference: PathBuf,
}

impl Both {
    fn new() -> Result<Option<Both>> {
        let Some(lab) = Lab::new()? else { return Ok(None) };
        Ok(reference()?.map(|reference| Both { lab, reference }))
    }

    /// One of them and the other, in both orders.
    fn orders(&self) -> [[&Path; 2]; 2] {
        let (ours, theirs) = (self.lab.ours.as_path(), self.reference.as_path());
        [[ours, theirs], [theirs, ours]]
    }

    /// The address an ADD gives, without the others of the attachment.
    fn add(&self, program: &Path, network: &Network, container: &str) -> Result<IpAddr> {
        let request = Request::add(&Holder::eth0(container));
        Ok(given(&self.lab.run(&network.call(program, &request))?)?[0])
    }

    fn del(&self, program: &Path, network: &Network, container: &str) -> Result<()> {
        let request = Request::del(&Holder::eth0(container));
        let answer = self.lab.run(&network.call(program, &request))?;
        ensure(answer.failure().is_none(), || format!("DEL of {container}: {answer:?}"))
    }

    fn refused(
        &self,
        program: &Path,
        network: &Network,
        request: &Request,
        words: &str,
    ) -> Result<()> {
        let answer = self.lab.run(&network.call(program, request))?;
        let told = answer.failure().is_some_and(|error| error.msg.contains(words));
        ensure(told, || format!("{words:?} expected of {}, not {answer:?}", program.display()))
    }
}

fn small() -> Value {
    json!({"subnet": "10.1.2.0/29"})
}

fn dual() -> Value {
    json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]]})
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Everything in the network's directory: mode and content.
fn files(network: &Network) -> Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let directory = network.directory();
    let what = || format!("read {}", directory.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&directory).context(what)? {
        let path = entry.context(what)?.path();
        let mode = path.metadata().context(what)?.mode();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, (mode, fs::read(&path).context(what)?));
    }
    files.insert(".".to_owned(), (directory.metadata().context(what)?.mode(), Vec::new()));
    Ok(files)
}

#[test]
fn what_they_write_is_the_same_byte_for_byte() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    let [[ours, theirs], _] = both.orders();
    let (here, there) = (Network::new(&dual())?, Network::new(&dual())?);
    for (program, network) in [(ours, &here), (theirs, &there)] {
        for container in ["a", "b", "c"] {
            both.add(program, network, container)?;
        }
    }
    assert_eq!(files(&here)?, files(&there)?);
    both.del(ours, &here, "b")?;
    both.del(theirs, &there, "b")?;
    assert_eq!(files(&here)?, files(&there)?);
    Ok(())
}

#[test]
fn each_skips_what_the_other_gave_and_frees_it() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    for [one, other] in both.orders() {
        let network = Network::new(&small())?;
        let mut addresses = BTreeSet::new();
        for (program, container) in [(one, "a"), (other, "b"), (one, "c"), (other, "d"), (one, "e")]
        {
            assert!(addresses.insert(both.add(program, &network, container)?), "{container}");
        }
        for program in [one, other] {
            let late = Request::add(&Holder::eth0("late"));
            both.refused(program, &network, &late, FULL)?;
        }
        // What the other gave to somebody is somebody's, and not to be had by asking.
        let wish = json!({"args": {"cni": {"ips": ["10.1.2.2"]}}});
        let asks = Request::add(&Holder::eth0("late")).with(wish);
        both.refused(other, &network, &asks, "is not available in range set")?;
        both.refused(other, &network, &Request::add(&Holder::eth0("a")), DUPLICATE)?;

        for (program, container) in
            [(other, "a"), (one, "b"), (other, "c"), (one, "d"), (other, "e")]
        {
            both.del(program, &network, container)?;
        }
        assert_eq!(network.reservations()?, BTreeMap::new());
    }
    Ok(())
}

#[test]
fn each_goes_on_where_the_other_stopped() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    for [one, other] in both.orders() {
        let network = Network::new(&dual())?;
        for (turn, program) in [one, other, one, other].into_iter().enumerate() {
            let container = format!("c{turn}");
            let expected = address(&format!("10.1.2.{}", 2 + turn));
            assert_eq!(both.add(program, &network, &container)?, expected);
            // An address that has just been free is not the next one.
            both.del(program, &network, &container)?;
        }
        // Far on, and at the end of the range, from where it begins anew.
        network.write("last_reserved_ip.0", "10.1.2.100")?;
        assert_eq!(both.add(other, &network, "far")?, address("10.1.2.101"));
        network.write("last_reserved_ip.0", "10.1.2.254")?;
        let anew = both.add(one, &network, "anew")?;
        assert!(anew < address("10.1.2.100"), "{anew}");
    }
    Ok(())
}

#[test]
fn reservations_of_old_versions_are_freed_by_both() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    for program in [&both.lab.ours, &both.reference] {
        let network = Network::new(&small())?;
        for (name, content) in [("10.1.2.2", "old"), ("10.1.2.3", "older\n"), ("10.1.2.4", "else")]
        {
            network.write(name, content)?;
        }
        both.refused(program, &network, &Request::add(&Holder::eth0("old")), DUPLICATE)?;
        assert_eq!(both.add(program, &network, "new")?, address("10.1.2.5"));
        for container in ["old", "older", "new"] {
            both.del(program, &network, container)?;
        }
        let left: Vec<String> = network.reservations()?.into_values().collect();
        assert_eq!(left, ["else"], "{}", program.display());
    }
    Ok(())
}

/// Back to back, so that many changes fall into one tick of the filesystem's clock: whatever ours
/// remembers of the directory, it must see what the reference has done since.
#[test]
fn changes_within_a_tick_of_the_clock_are_seen() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    let network = Network::new(&small())?;
    let (ours, theirs) = (&both.lab.ours, &both.reference);
    for round in 0..200 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        // Ours without a process, which takes a tick of its own to start.
        let first = given(&network.in_process(&Request::add(&Holder::eth0(&a))))?[0];
        let second = both.add(theirs, &network, &b)?;
        let request = Request::add(&Holder::eth0(&b));
        let twice = network.in_process(&request);
        let refused = twice.failure().is_some_and(|error| error.msg.contains(DUPLICATE));
        assert!(refused, "{round}: {twice:?}");
        let wish = json!({"args": {"cni": {"ips": [second]}}});
        let asks = Request::add(&Holder::eth0("asks")).with(wish);
        let taken = network.in_process(&asks).failure();
        assert!(taken.is_some_and(|error| error.code == 101), "{round}: {second} is b's");

        both.del(theirs, &network, &a)?;
        let wish = json!({"args": {"cni": {"ips": [first]}}});
        let again = Request::add(&Holder::eth0(&a)).with(wish);
        assert_eq!(given(&network.in_process(&again))?, [first], "{round}: it is free");
        both.del(if round % 2 == 0 { ours } else { theirs }, &network, &b)?;
        both.del(theirs, &network, &a)?;
        let check = network.in_process(&Request::new("CHECK", &Holder::eth0(&a)));
        assert!(check.failure().is_some(), "{round}: CHECK finds what the reference removed");
        assert_eq!(network.reservations()?, BTreeMap::new(), "{round}");
    }
    Ok(())
}

/// The same by hand: a process takes longer than a tick of most clocks.
#[test]
fn a_change_a_moment_later_is_seen() -> Outcome {
    let network = Network::new(&small())?;
    let wish = |address| json!({"args": {"cni": {"ips": [address]}}});
    for round in 0..500 {
        let (a, b) = (Holder::eth0(&format!("a{round}")), Holder::eth0(&format!("b{round}")));
        let first = given(&network.in_process(&Request::add(&a)))?[0];
        let other = if first == address("10.1.2.4") { "10.1.2.5" } else { "10.1.2.4" };
        network.write(other, b.contents())?;
        let twice = network.in_process(&Request::add(&b)).failure();
        assert!(twice.is_some_and(|error| error.msg.contains(DUPLICATE)), "{round}");

        for path in [network.path(other), network.path(&first.to_string())] {
            fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
        }
        let again = network.in_process(&Request::add(&b).with(wish(first)));
        assert_eq!(given(&again)?, [first], "{round}");
        assert!(network.in_process(&Request::new("CHECK", &a)).failure().is_some(), "{round}");
        assert_eq!(network.in_process(&Request::del(&b)).failure(), None);
        assert_eq!(network.reservations()?, BTreeMap::new(), "{round}");
    }
    Ok(())
}

/// Each in threads of its own, on a range with room for half of them.
#[test]
fn both_at_once_give_no_address_twice() -> Outcome {
    let Some(both) = Both::new()? else { return Ok(()) };
    let network = Network::new(&small())?;
    let come_and_go = |thread: usize| -> Result<()> {
        let program = if thread.is_multiple_of(2) { &both.lab.ours } else { &both.reference };
        for round in 0..25 {
            let holder = Holder::eth0(&format!("c{thread}-{round}"));
            let answer = both.lab.run(&network.call(program, &Request::add(&holder)))?;
            match answer.failure() {
                None => {
                    let held = network.path(&given(&answer)?[0].to_string());
                    let content = fs::read_to_string(&held).unwrap_or_default();
                    ensure(content == holder.contents(), || format!("{content:?} for {holder:?}"))?;
                }
                Some(error) => ensure(error.msg.contains(FULL), || error.to_string())?,
            }
            both.del(both.orders()[round % 2][thread / 2 % 2], &network, &holder.container)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|thread| scope.spawn(move || come_and_go(thread))).collect();
        let died = |_| Err(LabError::Wrong("a worker thread died".to_owned()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(died))
    })?;
    assert_eq!(network.reservations()?, BTreeMap::new());
    assert_eq!(network.strays()?, Vec::<String>::new());
    Ok(())
}
