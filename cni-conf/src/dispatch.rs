//! From the runtime's call to the plugin's answer.
//!
//! The order of the checks is that of the reference's `skel`: environment, stdin, configuration,
//! version, and the plugin last. Everything is refused before the plugin is called, with one
//! exception, which `add` explains.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::attachment::Attachment;
use crate::conf::{self, NetConf};
use crate::env::{Env, Verb};
use crate::error::{CniError, Code};
use crate::names::{NameError, check_container_id, check_ifname};
use crate::plugin::{Call, Plugin, Upkeep};
use crate::version::SpecVersion;

/// The most that is read from stdin. A configuration has a kilobyte, and for GC a hundred bytes
/// more for each attachment; a stream without end must not eat the node's memory.
const STDIN_MAX: u64 = 16 << 20;

/// What a call leaves for the process to do: write, and exit with 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A result, an error, a list of versions, or nothing.
    pub stdout: String,
    /// Text for people.
    pub stderr: String,
    /// Whether to exit with 0.
    pub success: bool,
}

/// The whole `main` of a plugin: runs it on this process's environment, arguments and stdin.
pub fn main<P: Plugin>(plugin: &P) -> ExitCode {
    let mut outcome = match std::env::args_os().nth(1) {
        Some(arg) if arg == "--version" || arg == "--help" => about::<P>(),
        _ => run(plugin, Env::from_process(), io::stdin().lock()),
    };
    if !outcome.stdout.is_empty() {
        // Whole lines go out in one write, and who reads them wakes once.
        outcome.stdout.push('\n');
    }
    let written = io::stderr()
        .write_all(outcome.stderr.as_bytes())
        .and(io::stdout().write_all(outcome.stdout.as_bytes()))
        .and(io::stdout().flush());
    if outcome.success && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one call.
pub fn run<P: Plugin>(plugin: &P, env: Env, stdin: impl Read) -> Outcome {
    if env.command.as_deref().unwrap_or_default().is_empty() {
        return about::<P>();
    }
    let mut bytes = Vec::new();
    match serve(plugin, env, stdin, &mut bytes) {
        Ok(stdout) => Outcome { stdout, stderr: String::new(), success: true },
        Err(error) => Outcome {
            stdout: error.to_json(conf::answer_version(&bytes, P::VERSIONS)),
            stderr: String::new(),
            success: false,
        },
    }
}

/// What somebody who starts the plugin by hand reads.
fn about<P: Plugin>() -> Outcome {
    let versions: Vec<&str> = P::VERSIONS.iter().map(|version| version.as_str()).collect();
    let stderr = format!(
        "CNI plugin {} version {}\nCNI protocol versions supported: {}\n",
        P::NAME,
        env!("CARGO_PKG_VERSION"),
        versions.join(", ")
    );
    Outcome { stdout: String::new(), stderr, success: true }
}

/// Checks the call and hands it to the plugin; what it returns goes to stdout. `bytes` is filled
/// with what stdin holds, since an error too is written in the configuration's version.
fn serve<P: Plugin>(
    plugin: &P,
    env: Env,
    stdin: impl Read,
    bytes: &mut Vec<u8>,
) -> Result<String, CniError> {
    let verb = verb(&env)?;
    check_variables(verb, &env)?;
    if verb == Verb::Version {
        return Ok(versions::<P>());
    }
    read(stdin, bytes)?;
    let conf = NetConf::parse_for(bytes, P::VERSIONS)?;
    check_version_has(verb, conf.version)?;
    match verb {
        Verb::Add | Verb::Del | Verb::Check => {
            let attachment = Attachment::new(&conf.name, &env.container_id, &env.ifname)?;
            attached(plugin, verb, &Call { env, conf, attachment })
        }
        Verb::Gc => plugin.gc(&Upkeep { env, conf }).map(|()| String::new()),
        Verb::Status => plugin.status(&Upkeep { env, conf }).map(|()| String::new()),
        Verb::Version => Ok(versions::<P>()),
    }
}

fn attached<P: Plugin>(plugin: &P, verb: Verb, call: &Call) -> Result<String, CniError> {
    let netns = (!call.env.netns.is_empty()).then(|| Path::new(&call.env.netns));
    match (verb, netns) {
        (Verb::Del, netns) => plugin.del(call, netns).map(|()| String::new()),
        (Verb::Add, Some(netns)) => add(plugin, call, netns),
        (Verb::Check, Some(netns)) => plugin.check(call, netns).map(|()| String::new()),
        _ => Err(missing(&["CNI_NETNS"])),
    }
}

/// An ADD whose result cannot be written has failed, although the plugin has done its work:
/// before 0.3.0 a result needs an address, and only the plugin's answer shows whether there is
/// one. The runtime then never learns of the interface, so it is removed again.
fn add<P: Plugin>(plugin: &P, call: &Call, netns: &Path) -> Result<String, CniError> {
    let result = plugin.add(call, netns)?;
    result.render(call.conf.version).map_err(|error| match plugin.del(call, Some(netns)) {
        Ok(()) => error,
        Err(undo) => error.with_details(format!("removing the attachment failed too: {undo}")),
    })
}

fn verb(env: &Env) -> Result<Verb, CniError> {
    let command = env.command.as_deref().unwrap_or_default();
    Verb::parse(command).ok_or_else(|| {
        CniError::new(Code::InvalidEnvironment, format!("unknown CNI_COMMAND: {command}"))
            .with_details("CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION")
    })
}

/// A variable, its value, and the rule for the value.
type Variable<'a> = (&'static str, &'a str, fn(&str) -> Result<(), NameError>);

/// The variables a verb needs. An invalid one is reported before those that are missing, and these
/// all at once, as the reference does.
fn check_variables(verb: Verb, env: &Env) -> Result<(), CniError> {
    let container_id: Variable<'_> = ("CNI_CONTAINERID", &env.container_id, check_container_id);
    let netns: Variable<'_> = ("CNI_NETNS", &env.netns, |_| Ok(()));
    let ifname: Variable<'_> = ("CNI_IFNAME", &env.ifname, check_ifname);
    let path: Variable<'_> = ("CNI_PATH", &env.path, |_| Ok(()));
    let needed: &[Variable<'_>] = match verb {
        Verb::Add | Verb::Check => &[container_id, netns, ifname, path],
        Verb::Del => &[container_id, ifname, path],
        Verb::Gc | Verb::Status => &[path],
        Verb::Version => &[],
    };
    let mut absent = Vec::new();
    for (name, value, check) in needed {
        if value.is_empty() {
            absent.push(*name);
        } else {
            check(value)?;
        }
    }
    if absent.is_empty() { Ok(()) } else { Err(missing(&absent)) }
}

fn missing(names: &[&str]) -> CniError {
    CniError::new(
        Code::InvalidEnvironment,
        format!("required env variables [{}] missing", names.join(",")),
    )
}

fn read(stdin: impl Read, bytes: &mut Vec<u8>) -> Result<(), CniError> {
    stdin.take(STDIN_MAX + 1).read_to_end(bytes).map_err(|error| {
        CniError::new(Code::Io, format!("cannot read the configuration from stdin: {error}"))
    })?;
    if bytes.len() as u64 > STDIN_MAX {
        bytes.clear();
        return Err(CniError::new(
            Code::Io,
            format!(
                "stdin holds more than {} MiB: no configuration is that large",
                STDIN_MAX >> 20
            ),
        ));
    }
    Ok(())
}

/// Verbs younger than the configuration's version are refused; the texts are the reference's.
fn check_version_has(verb: Verb, version: SpecVersion) -> Result<(), CniError> {
    let since = match verb {
        Verb::Check => SpecVersion::V0_4_0,
        Verb::Gc | Verb::Status => SpecVersion::V1_1_0,
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    let verb = verb.as_str();
    Err(CniError::new(Code::IncompatibleVersion, format!("config version does not allow {verb}"))
        .with_details(format!("cniVersion is {version}; {verb} needs {since} or later")))
}

/// The answer to VERSION: one line.
fn versions<P: Plugin>() -> String {
    let latest = P::VERSIONS.iter().max().unwrap_or(&SpecVersion::LATEST);
    let all: Vec<String> = P::VERSIONS.iter().map(|version| format!("\"{version}\"")).collect();
    format!("{{\"cniVersion\":\"{latest}\",\"supportedVersions\":[{}]}}\n", all.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
