//! The demo from outside: whatever ends it, nothing of it stays.
//!
//! Each test has a `/run` of its own, so that demos do not meet, nor one that somebody keeps.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Lines, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::process::{self, Finished};
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Outcome, Result, bins};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEADLINE: Duration = Duration::from_secs(120);

/// A mount namespace with an empty `/run`, until dropped.
struct Place {
    /// A process that does nothing but be there.
    holder: Child,
}

impl Place {
    /// `None` on a machine where no namespaces can be made.
    fn new() -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let what = || "start a shell in a mount namespace".to_owned();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", "mount -t tmpfs none /run; echo ready; exec cat"]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut place = Place { holder: spawned.context(what)? };
        let mut ready = [0; 6];
        match &mut place.holder.stdout {
            Some(output) => output.read_exact(&mut ready).context(what)?,
            None => return Err(LabError::Wrong("the shell has no output".to_owned())),
        }
        Ok(Some(place))
    }

    /// `None` on a machine without etcd, too.
    fn with_etcd() -> Result<Option<Self>> {
        if require::part(Part::Etcd)?.is_none() {
            return Ok(None);
        }
        Self::new()
    }

    /// Its `/run`, seen from here.
    fn run_folder(&self) -> PathBuf {
        format!("/proc/{}/root/run", self.holder.id()).into()
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.arg("--").arg(bins::demo()?).args(arguments);
        Ok(command)
    }

    /// Runs the demo to its end.
    fn demo(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(self.command(arguments)?, b"", DEADLINE)
    }

    /// Starts the demo and returns when it has printed a line with these words.
    fn demo_until(&self, words: &str) -> Result<Running> {
        self.until(&["--nodes", "2", "--pods", "1"], words)
    }

    fn until(&self, arguments: &[&str], words: &str) -> Result<Running> {
        let mut command = self.command(arguments)?;
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut supervisor = spawned.context(|| "start the demo".to_owned())?;
        let silent = || LabError::Wrong(format!("the demo has not said {words:?}"));
        let mut output = BufReader::new(supervisor.stdout.take().ok_or_else(silent)?).lines();
        let said = output.by_ref().map_while(io::Result::ok).any(|line| line.contains(words));
        if said { Ok(Running { supervisor, _output: output }) } else { Err(silent()) }
    }

    fn worker(&self) -> Result<i32> {
        let folder = self.run_folder().join("cbr0-demo");
        let files = fs::read_dir(&folder).context(|| format!("list {}", folder.display()))?;
        let names = files.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let pid = |name: String| name.strip_prefix("worker-")?.parse().ok();
        let recorded = names.filter_map(pid).next();
        recorded.ok_or_else(|| LabError::Wrong(format!("no worker in {}", folder.display())))
    }

    /// No file, no mounted namespace, no process but the holder.
    fn assert_empty(&self, case: &str) -> Result<()> {
        let run = self.run_folder();
        let files = fs::read_dir(&run).context(|| format!("list {}", run.display()))?;
        let files: Vec<_> = files.flatten().map(|entry| entry.path()).collect();
        assert!(files.is_empty(), "{case}: left {files:?}");
        let processes = self.processes()?;
        assert_eq!(processes, [self.holder.id().to_string()], "{case}: processes left");
        Ok(())
    }

    /// The processes in this mount namespace.
    fn processes(&self) -> Result<Vec<String>> {
        let inode = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/mnt")).map(|ns| ns.ino()).ok();
        let here = inode(&self.holder.id().to_string());
        let all = fs::read_dir("/proc").context(|| "list /proc".to_owned())?;
        let pids = all.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // The last moment of a process that has ended and waits for its parent does not count.
        let alive = |pid: &String| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
        Ok(pids.filter(|pid| inode(pid) == here).filter(alive).collect())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Its end is the end of its input.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A demo at work.
struct Running {
    supervisor: Child,
    /// Kept, so that the demo can go on writing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn interrupt(&self, signal: Signal) -> Result<()> {
        send(signal, i32::try_from(self.supervisor.id()).unwrap_or_default())
    }

    fn wait(&mut self) -> Result<Option<i32>> {
        let status = self.supervisor.wait().context(|| "wait for the demo".to_owned())?;
        Ok(status.code())
    }
}

fn send(signal: Signal, pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), signal).context(|| format!("send {signal} to {pid}"))
}

#[test]
fn a_demo_that_ends_well_leaves_nothing() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let finished = place.demo(&["--nodes", "2", "--pods", "1"])?;
    assert!(finished.status.success(), "{finished:#?}");
    assert!(finished.stdout.contains("OK: all 24 calls"), "{finished:#?}");
    Ok(place.assert_empty("a demo that ended")?)
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() -> Outcome {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    for moment in ["a router", "has synced", "node1-pod1", "Routes of node2"] {
        for signal in signals {
            let Some(place) = Place::new()? else { return Ok(()) };
            let mut demo = place.demo_until(moment)?;
            demo.interrupt(signal)?;
            let code = demo.wait()?;
            let case = format!("{signal} after {moment:?}");
            // It may have been done already.
            let expected = [Some(0), Some(128 + signal as i32)];
            assert!(expected.contains(&code), "{case}: {code:?}");
            place.assert_empty(&case)?;
        }
    }
    Ok(())
}

#[test]
fn a_demo_whose_worker_dies_leaves_nothing() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let mut demo = place.demo_until("has synced")?;
    send(Signal::SIGKILL, place.worker()?)?;
    assert_eq!(demo.wait()?, Some(1));
    Ok(place.assert_empty("a worker that was killed")?)
}

#[test]
fn what_a_killed_demo_left_is_removed_by_the_next_and_by_down() -> Outcome {
    for next in [&["down"][..], &["--nodes", "1", "--pods", "1"]] {
        let Some(place) = Place::new()? else { return Ok(()) };
        let mut demo = place.demo_until("has synced")?;
        demo.interrupt(Signal::SIGKILL)?;
        demo.wait()?;
        let finished = place.demo(next)?;
        assert!(finished.status.success(), "{finished:#?}");
        place.assert_empty(&format!("{next:?} after a demo that was killed"))?;
    }
    Ok(())
}

#[test]
fn a_kept_demo_stays_until_down() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let kept = place.demo(&["--nodes", "2", "--pods", "1", "--keep"])?;
    assert!(kept.status.success(), "{kept:#?}");
    assert_eq!(place.processes()?.len(), 3, "the holder and two route syncers");

    let status = place.demo(&["status"])?;
    assert!(status.stdout.contains("/route-syncer run --source file --node node2"), "{status:#?}");
    let links = place.demo(&["exec", "node1-pod1", "--", "cat", "/proc/net/dev"])?;
    assert!(links.stdout.contains("eth0:"), "{links:#?}");
    let nobody = place.demo(&["exec", "node9", "--", "true"])?;
    assert!(nobody.stderr.contains("no \"node9\""), "{nobody:#?}");
    let second = place.demo(&[])?;
    assert!(!second.status.success() && second.stderr.contains("demo down"), "{second:#?}");

    let down = place.demo(&["down"])?;
    assert!(down.status.success(), "{down:#?}");
    Ok(place.assert_empty("down")?)
}

/// Joins and leaves, of a demo with two nodes of one Pod each that is kept.
fn changes_of_a_kept_demo(place: &Place, source: &str, processes: usize) -> Result<()> {
    let succeeds = |arguments: &[&str], words: &[&str]| {
        let finished = place.demo(arguments)?;
        assert!(finished.status.success(), "{arguments:?}: {finished:#?}");
        for words in words {
            assert!(finished.stdout.contains(words), "{arguments:?}: no {words:?}: {finished:#?}");
        }
        Ok::<_, LabError>(finished.stdout)
    };
    let keep = ["--source", source, "--nodes", "2", "--pods", "1", "--keep"];
    succeeds(&keep, &["OK: all 24 calls"])?;
    assert_eq!(place.processes()?.len(), processes);
    succeeds(&["join"], &["node3 has joined", "node3-pod1", "OK: all 54 calls", "; 0 were lost"])?;
    assert_eq!(place.processes()?.len(), processes + 1);

    let left = succeeds(&["leave", "node1"], &["node1 has left", "OK: all 24 calls", "; 0 were"])?;
    assert!(!left.contains("node1-pod1"), "{left}");
    assert_eq!(place.processes()?.len(), processes);
    succeeds(&["join"], &["node1 has joined", "OK: all 54 calls", "; 0 were lost"])?;
    succeeds(&["leave"], &["node3 has left", "; 0 were lost"])?;
    let nobody = place.demo(&["leave", "node9"])?;
    assert!(nobody.stderr.contains("there are node1, node2"), "{nobody:#?}");
    // A node alone has no Pods of others that could call meanwhile.
    succeeds(&["leave"], &["node2 has left", "OK: all 6 calls"])?;
    let last = place.demo(&["leave"])?;
    assert!(!last.status.success() && last.stderr.contains("demo down"), "{last:#?}");

    succeeds(&["down"], &[])?;
    place.assert_empty("down after joins and leaves")
}

#[test]
fn nodes_join_and_leave_a_kept_demo() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    Ok(changes_of_a_kept_demo(&place, "file", 3)?)
}

#[test]
fn a_demo_that_is_not_there_cannot_be_changed() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    for change in ["join", "leave", "break"] {
        let refused = place.demo(&[change])?;
        assert!(refused.stderr.contains("demo --keep"), "{refused:#?}");
        place.assert_empty(change)?;
    }
    Ok(())
}

#[test]
fn nodes_join_and_leave_a_kept_demo_with_etcd() -> Outcome {
    let Some(place) = Place::with_etcd()? else { return Ok(()) };
    // The holder, two route syncers, and etcd.
    Ok(changes_of_a_kept_demo(&place, "etcd", 4)?)
}

/// Breaks what there is to break; the table has these lines, and everybody reaches everybody again.
fn broken_and_whole_again(place: &Place, options: &[&str], calls: &str) -> Result<String> {
    let kept = place.demo(&[options, &["--nodes", "2", "--pods", "1", "--keep"]].concat())?;
    assert!(kept.status.success() && kept.stdout.contains(calls), "{kept:#?}");
    let broken = place.demo(&["break"])?;
    assert!(broken.status.success() && broken.stdout.contains(calls), "{broken:#?}");
    for what in ["one route deleted", "all routes flushed", "uplink deleted, made again"] {
        let line = broken.stdout.lines().find(|line| line.starts_with(what));
        assert!(line.is_some_and(|line| line.ends_with(" ms")), "{what}: {broken:#?}");
    }
    let down = place.demo(&["down"])?;
    assert!(down.status.success(), "{down:#?}");
    place.assert_empty("down after things were broken")?;
    Ok(broken.stdout)
}

#[test]
fn what_breaks_in_a_kept_demo_is_whole_again() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let told = broken_and_whole_again(&place, &[], "OK: all 24 calls")?;
    assert!(!told.contains("etcd"), "{told}");
    Ok(())
}

#[test]
fn no_route_goes_while_the_etcd_of_a_kept_demo_is_stopped() -> Outcome {
    let Some(place) = Place::with_etcd()? else { return Ok(()) };
    let options = ["--source", "etcd", "--dual-stack=false"];
    let told = broken_and_whole_again(&place, &options, "OK: all 12 calls")?;
    let line = told.lines().find(|line| line.starts_with("etcd stopped, started again"));
    assert!(
        line.is_some_and(|line| line.ends_with("  0     -                never gone")),
        "{told}"
    );
    Ok(())
}

#[test]
fn in_a_demo_of_one_node_nothing_is_broken() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let kept = place.demo(&["--nodes", "1", "--pods", "1", "--keep"])?;
    assert!(kept.status.success(), "{kept:#?}");
    let refused = place.demo(&["break"])?;
    assert!(!refused.status.success() && refused.stderr.contains("demo join"), "{refused:#?}");
    place.demo(&["down"])?;
    Ok(place.assert_empty("a demo of one node")?)
}

#[test]
fn pods_have_one_family_or_both() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    for (option, calls) in
        [("--dual-stack", "OK: all 24 calls"), ("--dual-stack=false", "OK: all 12 calls")]
    {
        let finished = place.demo(&[option, "--nodes", "2", "--pods", "1"])?;
        assert!(finished.status.success() && finished.stdout.contains(calls), "{finished:#?}");
    }
    Ok(())
}

#[test]
fn a_demo_with_etcd_leaves_nothing_whatever_ends_it() -> Outcome {
    let Some(place) = Place::with_etcd()? else { return Ok(()) };
    let arguments = ["--source", "etcd", "--nodes", "2", "--pods", "1"];
    let finished = place.demo(&arguments)?;
    assert!(finished.status.success(), "{finished:#?}");
    assert!(finished.stdout.contains("OK: all 24 calls"), "{finished:#?}");
    place.assert_empty("a demo with etcd that ended")?;
    for moment in ["a router", "An etcd", "has synced", "Routes of node2"] {
        let mut demo = place.until(&arguments, moment)?;
        demo.interrupt(Signal::SIGTERM)?;
        let code = demo.wait()?;
        // It may have been done already.
        assert!([Some(0), Some(143)].contains(&code), "after {moment:?}: {code:?}");
        place.assert_empty(moment)?;
    }
    Ok(())
}

#[test]
fn what_a_killed_join_left_is_removed_by_down() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let kept = place.demo(&["--nodes", "1", "--pods", "1", "--keep"])?;
    assert!(kept.status.success(), "{kept:#?}");
    let mut join = place.until(&["join"], "node2 joins")?;
    join.interrupt(Signal::SIGKILL)?;
    join.wait()?;
    let down = place.demo(&["down"])?;
    assert!(down.status.success(), "{down:#?}");
    Ok(place.assert_empty("down after a join that was killed")?)
}

#[test]
fn a_second_demo_is_refused_and_the_first_goes_on() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let mut first = place.demo_until("a router")?;
    // Stopped, so that it does not end meanwhile.
    send(Signal::SIGSTOP, place.worker()?)?;
    let second = place.demo(&[])?;
    assert!(second.stderr.contains("another demo is running"), "{second:#?}");
    send(Signal::SIGCONT, place.worker()?)?;
    first.interrupt(Signal::SIGTERM)?;
    first.wait()?;
    Ok(place.assert_empty("the first demo")?)
}
