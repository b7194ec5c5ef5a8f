//! What a kubelet's signs of life cost: nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use cbr0_tests::Outcome;
use cbr0_tests::require::{self, Part};

use crate::fixture::{Lab, notes};

const BEATS: usize = 40;
const NONE: [&str; 0] = [];

/// A trace of what a process asks of the kernel; it ends with this value, and the process goes on.
struct Trace {
    strace: Child,
}

impl Trace {
    /// Returns when it has begun.
    fn of(pid: u32, strace: &std::path::Path, into: &std::path::Path) -> Trace {
        let mut command = Command::new(strace);
        command.args(["-f", "-s", "400", "-e", "trace=socket,sendto,sendmsg,write", "-o"]);
        command.arg(into).args(["-p", &pid.to_string()]);
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(strace.stderr.take().unwrap()).lines();
        let attached = said.map_while(Result::ok).any(|line| line.contains("attached"));
        assert!(attached, "strace ended");
        Trace { strace }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// How often the kernel was asked by netlink between two updates of the source.
fn netlink_calls(trace: &str, from: &str, to: &str) -> usize {
    let begin = trace.find(from).unwrap_or_else(|| panic!("no {from:?} in:\n{trace}"));
    let end = trace.find(to).unwrap_or_else(|| panic!("no {to:?} in:\n{trace}"));
    trace[begin..end].lines().filter(|line| line.contains("AF_NETLINK")).count()
}

#[test]
fn p22_heartbeats_cost_no_netlink_call() -> Outcome {
    let Some(strace) = require::part(Part::Strace)? else { return Ok(()) };
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&["node1 own", "node2 ok"])?;
    let file = lab.node(1).folder().join("trace");
    let trace = Trace::of(daemon.pid(), &strace, &file);
    let mut events = lab.listen()?;
    // Nodes without a range or an address change no route, and are noted: marks in the trace. The
    // first one has behind it whatever followed from the routes that were made before.
    let mark = |count: usize| {
        lab.create(&format!("mark{count}"), &NONE, &NONE)?;
        lab.wait(1, "mark", |status| notes(status, &format!("mark{count}")))
    };
    mark(1)?;
    mark(2)?;
    for count in 0..BEATS {
        lab.beat(2, count % 2 == 0, count)?;
    }
    mark(3)?;
    mark(4)?;
    drop(trace);
    let trace = fs::read_to_string(file).unwrap();
    let with_beats = netlink_calls(&trace, "names 4 nodes", "names 5 nodes");
    let without = netlink_calls(&trace, "names 5 nodes", "names 6 nodes");
    // The safety sync may have come in between, once a minute.
    assert!(without > 0 && with_beats <= 3 * without, "{with_beats} calls, {without} without");
    assert_eq!(lab.log(1).matches("the source names").count(), 5, "{}", lab.log(1));
    assert_eq!(events.counts()?, (0, 0));
    Ok(())
}
