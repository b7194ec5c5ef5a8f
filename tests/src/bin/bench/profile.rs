//! Where the time of one ADD goes, step by step: the kernel's and ours.
//!
//! `perf` notes when each system call begins and ends, which costs about a microsecond a call. What is
//! between the calls is ours: code of the plugin, and the page faults that it has.

use std::process::Command;

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use nix::libc;

use crate::bridge::work_of;
use crate::pods::Scene;
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample, Setting, Subject};
use crate::suite::OURS;

/// The subject `profile`. It is empty where there is no `perf`.
pub(crate) struct Profile;

/// The steps of an ADD of bridge with host-local, as requests divide it.
const STEPS: [&str; 13] = [
    "start of the program",
    "configuration, IPAM's note, namespaces, socket",
    "request: is the container's name free",
    "socket on the host",
    "request: own names, and the bridge",
    "reservation, and the lock of the bridge",
    "request: the bridge's addresses",
    "request: make the veth, and what is it",
    "request: does the host pass packets on",
    "setting: accept_ra",
    "request: container's end up, address, route",
    "request: marks, do port and bridge pass frames",
    "request: announce",
];
const END: &str = "result, and the end";
const OWN: &str = "ours: between all system calls";
const ALL: &str = "all, from the first instruction to the last";

impl Subject for Profile {
    fn name(&self) -> &'static str {
        "profile"
    }

    fn about(&self) -> &'static str {
        "where the time of one ADD goes (by perf; the kernel's part of each step)"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let ours = setting.suites.iter().find(|suite| suite.label == OURS);
        let Some(ours) = ours.filter(|_| can_trace()).cloned() else { return Vec::new() };
        let title = "one ADD of bridge + host-local".to_owned();
        let prepare = move || {
            let scene = Scene::build(&ours, &work_of("profile"))?;
            let turn = move || turn(&scene);
            Ok(vec![Lane { suite: OURS.to_owned(), turn: Box::new(turn) }])
        };
        vec![Case { title, unit: Unit::Microseconds, prepare: Box::new(prepare) }]
    }
}

/// Whether there is `perf`, and the kernel lets it see system calls.
fn can_trace() -> bool {
    let tried =
        Command::new("perf").args(["stat", "-e", "raw_syscalls:sys_enter", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// An ADD that had to wait for the kernel has more requests, and is made again.
fn turn(scene: &Scene) -> Result<Vec<Sample>> {
    for _ in 0..50 {
        let calls = scene.added_under(traced)?;
        if let Some(samples) = samples(&calls) {
            return Ok(samples);
        }
    }
    Err(LabError::Wrong("no ADD has the steps that the profile knows".to_owned()))
}

/// Has a call noted, and reads the notes.
fn traced(run: &dyn Fn(Vec<String>) -> Result<()>) -> Result<Vec<SystemCall>> {
    let file = tempfile::NamedTempFile::new().context(|| "make a temporary file".to_owned())?;
    let path = file.path().to_string_lossy().into_owned();
    let events = ["-e", "raw_syscalls:sys_enter", "-e", "raw_syscalls:sys_exit"];
    let words = ["perf", "record", "-q"].into_iter().chain(events).chain(["-o", &path]);
    run(words.map(str::to_owned).collect())?;
    let script = Command::new("perf")
        .args(["script", "--ns", "-F", "time,event,trace", "-i", &path])
        .output()
        .context(|| "run perf script".to_owned())?;
    Ok(calls_of(&String::from_utf8_lossy(&script.stdout)))
}

/// A system call, in microseconds since boot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SystemCall {
    number: i64,
    /// Its first argument.
    first: u64,
    begun: f64,
    ended: f64,
}

/// Reads lines such as `6636.129: raw_syscalls:sys_enter: NR 5 (8, 7ffe)`. The last call has no end,
/// and the one before the first line has no beginning: the execution.
fn calls_of(script: &str) -> Vec<SystemCall> {
    let mut calls = Vec::<SystemCall>::new();
    for line in script.lines() {
        let mut words = line.split_whitespace();
        let time = words.next().and_then(|word| word.trim_end_matches(':').parse::<f64>().ok());
        let (Some(time), Some(event)) = (time, words.next()) else { continue };
        let number = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(-1);
        let at = time * 1e6;
        if event.ends_with("sys_enter:") {
            let first = words.next().unwrap_or_default().trim_matches(['(', ',', ')']);
            let first = u64::from_str_radix(first, 16).unwrap_or(u64::MAX);
            calls.push(SystemCall { number, first, begun: at, ended: at });
        } else if let Some(last) = calls.last_mut() {
            last.ended = at;
        } else {
            calls.push(SystemCall { number, first: 0, begun: at, ended: at });
        }
    }
    calls
}

/// What each step took the kernel; `None` if the steps are others.
fn samples(calls: &[SystemCall]) -> Option<Vec<Sample>> {
    let mut steps = [0.0; STEPS.len()];
    let (mut step, mut end) = (0, 0.0);
    for call in calls {
        let is = |number: libc::c_long| call.number == number;
        let in_request = STEPS.get(step)?.starts_with("request");
        if step == 0 && is(libc::SYS_read) && call.first == 0 {
            step = 1;
        } else if is(libc::SYS_sendto) {
            step += 1;
            step += usize::from(!STEPS.get(step)?.starts_with("request"));
        } else if in_request && !is(libc::SYS_recvfrom) && step + 1 < STEPS.len() {
            // Behind the answer is the next step, if that is not a request itself.
            step += usize::from(!STEPS[step + 1].starts_with("request"));
        }
        let took = call.ended - call.begun;
        let is_over = step + 1 == STEPS.len() && !is(libc::SYS_sendto) && !is(libc::SYS_recvfrom);
        if is_over { end += took } else { steps[step] += took }
    }
    let sends = calls.iter().filter(|call| call.number == libc::SYS_sendto).count();
    if sends != STEPS.iter().filter(|step| step.starts_with("request")).count() {
        return None;
    }
    let all = calls.last()?.ended - calls.first()?.begun;
    let kernel = steps.iter().sum::<f64>() + end;
    let named = STEPS.into_iter().zip(steps).chain([(END, end), (OWN, all - kernel), (ALL, all)]);
    Some(named.map(|(what, value)| Sample { what, value }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_beginning_and_an_end() {
        let script = "\
 1.000001000:  raw_syscalls:sys_exit: NR 59 = 0
 1.000002000: raw_syscalls:sys_enter: NR 0 (0, 7ffe, 2000, 0, 0, 0)
 1.000005000:  raw_syscalls:sys_exit: NR 0 = 199
 1.000006000: raw_syscalls:sys_enter: NR 231 (0, 0, 0, 0, 0, 0)
";
        let calls = calls_of(script);
        let took = |call: &SystemCall| (call.number, (call.ended - call.begun).round());
        assert_eq!(calls.iter().map(took).collect::<Vec<_>>(), [(59, 0.0), (0, 3.0), (231, 0.0)]);
    }
}
