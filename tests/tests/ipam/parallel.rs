//! Many processes at once over a range with less room than they want.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use cbr0_tests::plugin::Answer;
use cbr0_tests::{LabError, Outcome, Result};
use serde_json::{Value, json};

use crate::fixture::{FULL, Holder, Lab, Network, Request, ensure, given};

const AT_ONCE: usize = 64;
/// The ADDs, each with its DEL.
const ADDS: usize = 2_000;
/// Of the range below, without the gateway.
const ADDRESSES: usize = 40;

fn range() -> Value {
    json!({
        "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.1", "rangeEnd": "10.1.2.41",
        "gateway": "10.1.2.7",
    })
}

/// Does the work in as many threads as there are processes at once, which begin together.
fn at_once<T: Send>(work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let barrier = Barrier::new(AT_ONCE);
    let worker = |number| {
        barrier.wait();
        work(number)
    };
    thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> =
            (0..AT_ONCE).map(|number| scope.spawn(move || worker(number))).collect();
        let died = |_| Err(LabError::Wrong("a worker thread died".to_owned()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect()
    })
}

fn is_full(answer: &Answer) -> bool {
    answer.failure().is_some_and(|error| error.code == 11 && error.msg.contains(FULL))
}

/// Who has been told which address. From before its DEL on an address may be anybody's.
type Told = Mutex<BTreeMap<IpAddr, usize>>;

/// An ADD and, when the range had room, its DEL; whether it had.
fn come_and_go(lab: &Lab, network: &Network, told: &Told, number: usize) -> Result<bool> {
    let holder = Holder::eth0(&format!("container{number}"));
    let answer = lab.run(&network.call(&lab.ours, &Request::add(&holder)))?;
    let added = answer.failure().is_none();
    if added {
        let address = given(&answer)?[0];
        let other = told.lock().unwrap().insert(address, number);
        ensure(other.is_none(), || format!("{address} is {other:?}'s and {number}'s"))?;
        let content = std::fs::read_to_string(network.path(&address.to_string()));
        let held = content.is_ok_and(|content| content == holder.contents());
        ensure(held, || format!("{address} is not reserved for {number}"))?;
        told.lock().unwrap().remove(&address);
    } else {
        ensure(is_full(&answer), || format!("{answer:?}"))?;
    }
    let gone = lab.run(&network.call(&lab.ours, &Request::del(&holder)))?;
    ensure(gone.failure().is_none(), || format!("{gone:?}"))?;
    Ok(added)
}

#[test]
fn two_thousand_come_and_go_and_the_range_is_exhausted_exactly_when_it_should_be() -> Outcome {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let network = Network::new(&range())?;
    let (told, next) = (Told::default(), AtomicUsize::new(0));
    let added = at_once(|_| {
        let numbers = std::iter::from_fn(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            (number < ADDS).then_some(number)
        });
        numbers.map(|number| come_and_go(&lab, &network, &told, number)).collect::<Result<Vec<_>>>()
    })?;
    let added = added.concat();
    assert_eq!(added.len(), ADDS);
    let room = added.iter().filter(|added| **added).count();
    assert!(room >= ADDRESSES, "only {room} of {ADDS} had room");
    assert_eq!(network.reservations()?, BTreeMap::new(), "what is left of nobody");

    fill_to_the_last(&lab, &network)?;
    let left = network.strays()?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// More ADDs at once than there are addresses, then one of the other sort at a time.
fn fill_to_the_last(lab: &Lab, network: &Network) -> Result<()> {
    let holder = |number: usize| Holder::eth0(&format!("last{number}"));
    let ask = |request: &Request| lab.run(&network.call(&lab.ours, request));
    let answers = at_once(|number| ask(&Request::add(&holder(number))))?;
    let (full, added): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| is_full(answer));
    let mut addresses = added.into_iter().map(given).collect::<Result<Vec<_>>>()?.concat();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!((addresses.len(), full.len()), (ADDRESSES, AT_ONCE - ADDRESSES));
    let reserved: Vec<IpAddr> = network.reservations()?.into_keys().collect();
    assert_eq!(reserved, addresses);

    // One more is refused until one goes.
    let late = Holder::eth0("late");
    assert!(is_full(&ask(&Request::add(&late))?));
    let first = network.reservations()?.into_values().next().unwrap();
    let (first, _) = first.split_once("\r\n").unwrap();
    assert_eq!(ask(&Request::del(&Holder::eth0(first)))?.failure(), None);
    given(&ask(&Request::add(&late))?)?;
    assert!(is_full(&ask(&Request::add(&Holder::eth0("later")))?));

    at_once(|number| ask(&Request::del(&holder(number))))?;
    assert_eq!(network.reservations()?.into_values().collect::<Vec<_>>(), [late.contents()]);
    assert_eq!(ask(&Request::del(&late))?.failure(), None);
    assert_eq!(network.reservations()?, BTreeMap::new());
    Ok(())
}
