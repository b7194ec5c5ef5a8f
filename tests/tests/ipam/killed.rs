//! Killed at each of its system calls, an ADD or a DEL leaves nothing that matters to the next one.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result};
use serde_json::{Value, json};

use crate::fixture::{Holder, Lab, Network, Request, ensure, given, reference};

/// What has happened on the node before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Nothing: the network has no directory.
    None,
    /// A few have come, and some gone.
    Some,
    /// The same, and what lay beside the network's directory is lost.
    Forgotten,
}

/// A case: the verb that is killed, the network, and its past.
struct Case<'a> {
    lab: &'a Lab,
    strace: &'a Strace,
    /// Whose DEL and ADD come next.
    next: &'a Path,
    verb: &'static str,
    ipam: Value,
    past: Past,
}

fn single() -> Value {
    json!({"subnet": "10.1.2.0/28"})
}

fn dual() -> Value {
    json!({"ranges": [[{"subnet": "10.1.2.0/28"}], [{"subnet": "2001:db8:1::/124"}]]})
}

fn others() -> [Holder; 3] {
    [Holder::eth0("other0"), Holder::eth0("other1"), Holder::new("killed", "net1")]
}

impl Case<'_> {
    /// A network with its past and, for a DEL, what the DEL is to remove.
    fn scene(&self) -> Result<Network> {
        let network = Network::new(&self.ipam)?;
        let holder = Holder::eth0("killed");
        if self.past != Past::None {
            for other in others() {
                given(&network.in_process(&Request::add(&other)))?;
            }
            let gone = Holder::eth0("gone");
            given(&network.in_process(&Request::add(&gone)))?;
            network.in_process(&Request::del(&gone));
        }
        if self.verb == "DEL" {
            given(&network.in_process(&Request::add(&holder)))?;
        }
        if self.past == Past::Forgotten {
            network.forget()?;
        }
        Ok(network)
    }

    fn request(&self) -> Request {
        Request::new(self.verb, &Holder::eth0("killed"))
    }

    /// Kills it everywhere.
    fn run(&self) -> Result<()> {
        let Case { lab, strace, .. } = self;
        let network = self.scene()?;
        let (answer, syscalls) =
            strace.syscalls(network.call(&lab.ours, &self.request()), &lab.host)?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(syscalls.len() > 30, "strace saw only {syscalls:?}");
        let killed = AtomicUsize::new(0);
        strace::for_each(&syscalls, |syscall| {
            let network = self.scene()?;
            let call = network.call(&lab.ours, &self.request());
            let ended = strace.kill_at(syscall, call, &lab.host)?;
            killed.fetch_add(usize::from(ended.code.is_none()), Ordering::Relaxed);
            self.assert_goes_on(&network).map_err(|error| {
                let (verb, past, Syscall { name, turn }) = (self.verb, self.past, syscall);
                let case = format!("{verb} with past {past:?} killed at {name} number {turn}");
                cbr0_tests::LabError::Wrong(format!("{case}: {error}"))
            })
        })?;
        let (killed, all) = (killed.into_inner(), syscalls.len());
        assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
        Ok(())
    }

    /// Others get what is free, and the same container can be removed, come again, and go.
    fn assert_goes_on(&self, network: &Network) -> Result<()> {
        let holder = Holder::eth0("killed");
        let sets = if self.ipam["ranges"].is_null() { 1 } else { 2 };
        let others = if self.past == Past::None { 0 } else { others().len() };
        self.assert_whole(network, others, &holder)?;

        let next = Holder::eth0("next");
        let before = network.reservations()?;
        let next_has = given(&self.call(network, &Request::add(&next))?)?;
        let new = next_has.iter().all(|address| !before.contains_key(address));
        ensure(new && next_has.len() == sets, || format!("{next_has:?} given, of {before:?}"))?;

        for _twice in 0..2 {
            self.succeeds(network, &Request::del(&holder))?;
            self.assert_held(network, &holder, 0)?;
        }
        let again = given(&self.call(network, &Request::add(&holder))?)?;
        ensure(again.iter().all(|address| !next_has.contains(address)), || {
            format!("{again:?} given again, {next_has:?} are the next one's")
        })?;
        self.assert_held(network, &holder, sets)?;
        self.assert_whole(network, others + 1, &holder)?;
        self.succeeds(network, &Request::del(&holder))?;
        self.succeeds(network, &Request::del(&next))?;
        self.assert_held(network, &holder, 0)?;
        self.assert_whole(network, others, &holder)
    }

    /// Every reservation names its holder in full: `others` have one of each set, and `killed` may
    /// have some, and nothing else lies there.
    fn assert_whole(&self, network: &Network, others: usize, killed: &Holder) -> Result<()> {
        let sets = if self.ipam["ranges"].is_null() { 1 } else { 2 };
        let mut held = network.reservations()?;
        held.retain(|_, content| *content != killed.contents());
        let whole = held
            .values()
            .all(|content| content.contains("\r\neth0") || content.contains("\r\nnet1"));
        ensure(whole && held.len() == others * sets, || format!("reserved are {held:?}"))?;
        let strays = network.strays()?;
        ensure(strays.is_empty(), || format!("{strays:?} lie in the network's directory"))
    }

    fn assert_held(&self, network: &Network, holder: &Holder, count: usize) -> Result<()> {
        let held = network.held_by(holder)?;
        ensure(held.len() == count, || format!("{held:?} are reserved for {holder:?}"))
    }

    fn succeeds(&self, network: &Network, request: &Request) -> Result<()> {
        let answer = self.call(network, request)?;
        ensure(answer.failure().is_none(), || format!("{request:?}: {answer:?}"))
    }

    fn call(&self, network: &Network, request: &Request) -> Result<cbr0_tests::plugin::Answer> {
        self.lab.run(&network.call(self.next, request))
    }
}

/// Kills our `verb` in every past; then comes ours, or the reference.
fn kill(verb: &'static str, ipam: &Value, then_reference: bool) -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let next = if then_reference { reference()? } else { Some(lab.ours.clone()) };
    let Some(next) = &next else { return Ok(()) };
    for past in [Past::None, Past::Some, Past::Forgotten] {
        let (lab, strace, ipam) = (&lab, &strace, ipam.clone());
        Case { lab, strace, next, verb, ipam, past }.run()?;
    }
    Ok(())
}

#[test]
fn an_add_killed_anywhere_does_not_matter() -> Outcome {
    Ok(kill("ADD", &single(), false)?)
}

#[test]
fn an_add_of_both_families_killed_anywhere_does_not_matter() -> Outcome {
    Ok(kill("ADD", &dual(), false)?)
}

#[test]
fn a_del_killed_anywhere_does_not_matter() -> Outcome {
    Ok(kill("DEL", &dual(), false)?)
}

#[test]
fn after_an_add_killed_anywhere_the_reference_goes_on() -> Outcome {
    Ok(kill("ADD", &dual(), true)?)
}
