//! What a verb costs, counted, is what `docs/costs.md` says: netlink requests, file operations and
//! processes exactly, system calls at most, sizes of binaries at most.
//!
//! Times depend on the machine and what else it does; these numbers do not. A change that raises
//! one has to say there what for.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cbr0_tests::counts::Counts;
use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::Attachment;
use cbr0_tests::strace::Strace;
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use serde_json::{Value, json};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/costs.md");

/// A network whose costs are told: the plugin, what is special, and its keys.
struct Case {
    plugin: &'static str,
    with: &'static str,
    keys: &'static str,
    dual_stack: bool,
}

const CASES: [Case; 4] = [
    Case {
        plugin: "bridge",
        with: "plain",
        keys: r#"{"isDefaultGateway": true}"#,
        dual_stack: false,
    },
    Case {
        plugin: "bridge",
        with: "`ipMasq`",
        keys: r#"{"isDefaultGateway": true, "ipMasq": true}"#,
        dual_stack: false,
    },
    Case {
        plugin: "bridge",
        with: "IPv4 and IPv6",
        keys: r#"{"isDefaultGateway": true}"#,
        dual_stack: true,
    },
    Case { plugin: "ptp", with: "plain", keys: "{}", dual_stack: false },
];

/// One host with a Pod that is there already, since the first one makes what all share; and the tool
/// that counts.
struct Bench {
    case: &'static Case,
    host: Node,
    resident: Pod,
    strace: Strace,
}

impl Bench {
    fn new(case: &'static Case) -> Result<Option<Bench>> {
        let (Some(strace), true) = (Strace::find()?, require::root()?) else { return Ok(None) };
        let (host, resident) = (Node::create("host")?, Pod::create("resident")?);
        let bench = Bench { case, host, resident, strace };
        bench.run("ADD", &bench.resident, &json!({}))?;
        // What is freed rests for a while, which every later call looks at.
        let gone = Pod::create("gone")?;
        bench.run("ADD", &gone, &json!({}))?;
        bench.run("DEL", &gone, &json!({}))?;
        Ok(Some(bench))
    }

    fn call(&self, verb: &str, attachment: Option<&Attachment>, extra: &Value) -> Result<Call> {
        let v4 = json!([{"subnet": "10.0.1.0/24"}]);
        let v6 = json!([{"subnet": "fd00:1::/64"}]);
        let ranges = if self.case.dual_stack { json!([v4, v6]) } else { json!([v4]) };
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": self.case.plugin});
        let keys: Value = serde_json::from_str(self.case.keys).map_err(wrong)?;
        for (key, value) in [&keys, extra].into_iter().filter_map(Value::as_object).flatten() {
            conf[key] = value.clone();
        }
        let data_dir = self.host.data_dir();
        conf["ipam"] = json!({"type": "host-local", "ranges": ranges, "dataDir": data_dir});
        let plugins = bins::plugin_dir()?;
        let call = Call::new(bins::plugin(self.case.plugin)?, verb)
            .env("CNI_PATH", plugins.to_string_lossy())
            .stdin_json(&conf);
        Ok(match attachment {
            None => call,
            Some(attachment) => call
                .env("CNI_CONTAINERID", &attachment.container_id)
                .env("CNI_NETNS", &attachment.netns)
                .env("CNI_IFNAME", &attachment.ifname),
        })
    }

    /// What the plugin answers.
    fn run(&self, verb: &str, pod: &Pod, extra: &Value) -> Result<String> {
        let answer = self.call(verb, Some(&pod.attachment()), extra)?.run(&self.host)?;
        match answer.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb}: {error}"))),
            None => Ok(answer.stdout),
        }
    }

    fn log(&self, verb: &str, pod: Option<&Pod>, extra: &Value) -> Result<(String, String)> {
        let attachment = pod.map(Pod::attachment);
        let call = self.call(verb, attachment.as_ref(), extra)?;
        let (answer, log) = self.strace.log(call, &self.host)?;
        match answer.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb} under strace: {error}"))),
            None => Ok((answer.stdout, log)),
        }
    }

    /// An ADD that found the kernel ready: on a busy machine some listen to events meanwhile, and
    /// ask again, as often as it takes. Its answer, and what it cost.
    fn add(&self, pod: &Pod) -> Result<(String, Counts)> {
        for _ in 0..50 {
            let (answer, log) = self.log("ADD", Some(pod), &json!({}))?;
            if !log.contains("NETLINK_ADD_MEMBERSHIP") {
                return Ok((answer, Counts::of(&log)));
            }
            self.run("DEL", pod, &json!({}))?;
        }
        Err(LabError::Wrong("each of 50 ADDs had to wait for the kernel".to_owned()))
    }

    /// Every verb, for a Pod that comes and goes.
    fn costs(&self) -> Result<Vec<(&'static str, Counts)>> {
        let pod = Pod::create("pod")?;
        let cost = |verb, pod: Option<&Pod>, extra: &Value| {
            Ok::<_, LabError>(Counts::of(&self.log(verb, pod, extra)?.1))
        };
        let (answer, add) = self.add(&pod)?;
        let result: Value = serde_json::from_str(&answer).map_err(wrong)?;
        let valid = [&pod, &self.resident].map(|pod| {
            let Attachment { container_id, ifname, .. } = pod.attachment();
            json!({"containerID": container_id, "ifname": ifname})
        });
        let nothing = json!({});
        Ok(vec![
            ("ADD", add),
            ("CHECK", cost("CHECK", Some(&pod), &json!({"prevResult": result}))?),
            ("STATUS", cost("STATUS", None, &nothing)?),
            ("GC", cost("GC", None, &json!({"cni.dev/valid-attachments": valid}))?),
            ("DEL", cost("DEL", Some(&pod), &nothing)?),
            ("DEL again", cost("DEL", Some(&pod), &nothing)?),
        ])
    }
}

fn wrong(error: impl std::fmt::Display) -> LabError {
    LabError::Wrong(error.to_string())
}

/// The rows of the tables of the document that have this many cells, without their heads.
fn rows(cells: usize) -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(DOCUMENT).context(|| format!("read {DOCUMENT}"))?;
    let row = |line: &str| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(line.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let rows = text.lines().filter_map(row).filter(|row| row.len() == cells);
    Ok(rows.filter(|row| row.last().is_some_and(|cell| cell.parse::<u64>().is_ok())).collect())
}

/// A row of the table as it would be right, with this number of system calls.
fn row_of(case: &Case, verb: &str, counts: &Counts, syscalls: usize) -> Vec<String> {
    let Counts { requests, files, processes, .. } = counts;
    let numbers = [*requests, *files, *processes, syscalls].map(|number| number.to_string());
    [case.plugin, case.with, verb].map(str::to_owned).into_iter().chain(numbers).collect()
}

#[test]
fn every_verb_costs_what_the_document_says() -> Outcome {
    let documented = rows(7)?;
    let (mut expected, mut report) = (0, String::new());
    for case in &CASES {
        let Some(bench) = Bench::new(case)? else { return Ok(()) };
        for (verb, counts) in bench.costs()? {
            expected += 1;
            let found =
                documented.iter().find(|row| row[..3] == row_of(case, verb, &counts, 0)[..3]);
            let most = found.and_then(|row| row.last()?.parse().ok()).unwrap_or(0);
            let is_right = found == Some(&row_of(case, verb, &counts, most))
                && counts.syscalls <= most
                && counts.programs == 0;
            if !is_right {
                let row = row_of(case, verb, &counts, counts.syscalls).join(" | ");
                let programs = counts.programs;
                writeln!(report, "| {row} | (and {programs} other programs)")?;
            }
        }
    }
    assert!(report.is_empty(), "not as docs/costs.md says, but:\n{report}");
    assert_eq!(documented.len(), expected, "rows of docs/costs.md that nothing is measured for");
    Ok(())
}

#[test]
fn the_cost_does_not_grow_with_the_containers_on_the_host() -> Outcome {
    let Some(bench) = Bench::new(&CASES[1])? else { return Ok(()) };
    let pods =
        (0..20).map(|number| Pod::create(&format!("pod{number}"))).collect::<Result<Vec<_>>>()?;
    let add = |pod: &Pod| Ok(Counts { syscalls: 0, ..bench.add(pod)?.1 });
    let costs = pods.iter().map(add).collect::<Result<Vec<_>>>()?;
    assert!(costs.windows(2).all(|pair| pair[0] == pair[1]), "{costs:?}");
    Ok(())
}

/// Of the binaries that are delivered; others are as large as their debug information.
#[test]
fn the_binaries_are_as_small_as_the_document_says() -> Outcome {
    if !require::release()? {
        return Ok(());
    }
    let documented = rows(2)?;
    let largest = documented.iter().find(|row| row[0] == "a plugin's binary, bytes");
    let most: u64 = largest.and_then(|row| row[1].parse().ok()).unwrap_or(0);
    let folder = bins::plugin_dir()?;
    for (name, size) in plugins(&folder)? {
        assert!(size <= most, "{name} has {size} bytes; docs/costs.md allows {most}");
    }
    Ok(())
}

/// The names and sizes of the plugins in a folder: of what answers as one.
fn plugins(folder: &Path) -> Result<Vec<(String, u64)>> {
    let what = || format!("look at {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).context(what)? {
        let entry = entry.context(what)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_other = ["route-syncer", "demo", "bench", "floor"].contains(&name.as_str());
        let meta = entry.metadata().context(what)?;
        if meta.is_file() && !is_other && !name.starts_with('.') {
            found.push((name, meta.len()));
        }
    }
    assert!(found.len() > 5, "{} has only {found:?}", folder.display());
    Ok(found)
}
