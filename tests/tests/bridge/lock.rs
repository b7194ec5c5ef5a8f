//! `removeEmptyBridge`: who makes a port and who removes the bridge wait for each other.

use std::fs::{self, File};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use cbr0_tests::error::Context as _;
use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Outcome, Result};
use kernel::{NetNs, link};
use serde_json::json;

use crate::fixture::Host;

/// Longer than any plugin works before it asks for the lock.
const DEADLINE: Duration = Duration::from_secs(30);

/// The file on which plugins of this host lock; see flock(2).
fn lock_file(host: &Host) -> Result<File> {
    let path = host.node.netns().path();
    File::open(&path).context(|| format!("open {}", path.display()))
}

/// Waits until somebody waits for the lock of the host, or `call` has ended without.
fn wait_for_waiter<T>(host: &Host, call: &ScopedJoinHandle<'_, T>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let file = lock_file(host)?;
    let inode = file.metadata().context(|| "look at the lock".to_owned())?.ino();
    let wanted = format!(":{inode} ");
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until && !call.is_finished() {
        let locks = fs::read_to_string("/proc/locks").context(|| "read /proc/locks".to_owned())?;
        if locks.lines().any(|lock| lock.contains("->") && lock.contains(&wanted)) {
            return Ok(());
        }
        thread::yield_now();
    }
    Err(LabError::Wrong("nobody waits for the lock".to_owned()))
}

fn join<T>(call: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    call.join().map_err(|_| LabError::Wrong("a thread died".to_owned()))?
}

/// An ADD that has found the bridge and makes its port has the lock.
#[test]
fn a_bridge_that_gets_a_port_just_now_stays() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({"removeEmptyBridge": true}));
    let (pod, somewhere) = (Pod::create("pod")?, NetNs::create()?);
    let mut runtime = host.runtime()?;
    runtime.add(&network, &pod.attachment())?;
    let lock = lock_file(&host)?;
    lock.lock_shared().context(|| "take the lock".to_owned())?;
    thread::scope(|scope| {
        let del = scope.spawn(|| runtime.del(&network, &pod.attachment()));
        wait_for_waiter(&host, &del)?;
        let port = host.foreign_veth("port", &somewhere, "eth9", "")?;
        let bridge = host.link("cbr0")?.unwrap().index;
        host.node.rtnl()?.request(&link::set_master(port.index, Some(bridge)))?;
        lock.unlock().context(|| "release the lock".to_owned())?;
        join(del)
    })?;
    assert!(host.link("cbr0")?.is_some());
    Ok(())
}

/// A DEL that has found the bridge empty has the lock, alone.
#[test]
fn an_add_waits_for_who_removes_the_bridge_and_makes_it_anew() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({"removeEmptyBridge": true}));
    let (first, second) = (Pod::create("first")?, Pod::create("second")?);
    let mut runtime = host.runtime()?;
    runtime.add(&network, &first.attachment())?;
    let old = host.link("cbr0")?.unwrap();
    let lock = lock_file(&host)?;
    lock.lock().context(|| "take the lock".to_owned())?;
    thread::scope(|scope| {
        let add = scope.spawn(|| runtime.add(&network, &second.attachment()));
        wait_for_waiter(&host, &add)?;
        host.node.rtnl()?.request(&link::delete(old.index))?;
        lock.unlock().context(|| "release the lock".to_owned())?;
        join(add)
    })?;
    assert_ne!(host.link("cbr0")?.unwrap().index, old.index);
    Ok(host.runtime()?.status(&network)?)
}
