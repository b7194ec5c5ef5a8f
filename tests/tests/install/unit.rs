//! The systemd unit: what the daemon relies on in it, and that systemd can read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::plugin::Call;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result, bins, process};

use crate::node::{Scene, Watch};

const NAME: &str = "cbr0-route-syncer.service";
const DEADLINE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "/usr/local/bin/route-syncer";

fn shipped(name: &str) -> Result<String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let path: PathBuf = deploy.join(name);
    fs::read_to_string(&path).context(|| format!("read {}", path.display()))
}

/// The value of a key in a section, as `Key=value` stands there; none if it is not there once.
fn value<'a>(unit: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut current = "";
    let mut values = Vec::new();
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            current = line;
        } else if let Some((name, value)) = line.split_once('=')
            && current == section
            && name == key
        {
            values.push(value);
        }
    }
    (values.len() == 1).then(|| values[0])
}

#[test]
fn the_unit_says_what_the_daemon_needs() -> Outcome {
    let unit = shipped(NAME)?;
    for (section, key, expected) in [
        ("[Unit]", "After", "network-online.target"),
        ("[Unit]", "Wants", "network-online.target"),
        ("[Service]", "Restart", "always"),
        // Without the sign in it plugins would say that they are not ready, once the daemon stops.
        ("[Service]", "RuntimeDirectory", "cbr0"),
        ("[Service]", "RuntimeDirectoryPreserve", "yes"),
        ("[Service]", "StateDirectory", "cbr0"),
        ("[Service]", "CapabilityBoundingSet", "CAP_NET_ADMIN"),
        ("[Service]", "EnvironmentFile", "/etc/cbr0/route-syncer.env"),
        ("[Install]", "WantedBy", "multi-user.target"),
    ] {
        assert_eq!(value(&unit, section, key), Some(expected), "{section} {key}");
    }
    Ok(())
}

/// The daemon takes the options of the unit, with each choice that the file beside it offers.
#[test]
fn the_daemon_understands_the_options() -> Outcome {
    let (unit, environment) = (shipped(NAME)?, shipped("route-syncer.env")?);
    let start = value(&unit, "[Service]", "ExecStart").unwrap_or_default();
    let words: Vec<&str> = start.split_whitespace().collect();
    assert_eq!((words.first(), words.last()), (Some(&PROGRAM), Some(&"$OPTIONS")), "{start}");
    let choices = environment
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix("OPTIONS="));
    let mut tried = 0;
    for choice in choices {
        let mut command = Command::new(bins::route_syncer()?);
        command.args(&words[1..words.len() - 1]).args(choice.split_whitespace());
        // Help is given only if every option before it is known.
        command.arg("--help");
        let finished = process::run(command, b"", DEADLINE)?;
        assert!(finished.status.success(), "{choice}: {finished:?}");
        tried += 1;
    }
    assert_eq!(tried, 2);
    Ok(())
}

#[test]
fn its_capabilities_are_enough() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let unit = shipped(NAME)?;
    let capabilities = value(&unit, "[Service]", "CapabilityBoundingSet").unwrap_or_default();
    let mut bounds = "--bounding-set=-all".to_owned();
    for capability in capabilities.split(' ') {
        bounds += &format!(",+{}", capability.trim_start_matches("CAP_").to_lowercase());
    }
    let scene = Scene::new()?;
    let run_dir = scene.host.folder().join("run");
    fs::create_dir(&run_dir)?;
    let watch = Watch::new(&run_dir)?;
    let _syncer = scene.start_under(&["setpriv", "--no-new-privs", "--inh-caps=-all", &bounds])?;
    watch.until(&scene.status_file(), "10.0.2.0/24")?;
    Watch::new(&scene.net_d)?.until(&scene.conflist(), "10.0.1.0/24")?;
    let status = Call::bare(bins::route_syncer()?).args(["status", "--run-dir"]).args([run_dir]);
    let answer = status.run(&scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    Ok(())
}

#[test]
fn systemd_can_read_the_unit() -> Outcome {
    let Some(analyze) = require::part(Part::SystemdAnalyze)? else { return Ok(()) };
    let folder = tempfile::tempdir().context(|| "make a folder".to_owned())?;
    let path = folder.path().join(NAME);
    // It looks whether the program is there.
    let unit = shipped(NAME)?.replace(PROGRAM, &bins::route_syncer()?.to_string_lossy());
    fs::write(&path, unit).context(|| "write the unit".to_owned())?;
    let mut command = Command::new(analyze);
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path);
    let finished = process::run(command, b"", DEADLINE)?;
    assert!(finished.status.success() && finished.stderr.is_empty(), "{finished:?}");
    Ok(())
}
