//! The configurations for kind, given to the real program, with podman and without any image: it goes
//! as far as fetching the image of its nodes.

use cbr0_tests::machine::{DEADLINE, Machine};
use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result, process};

const README: &str = include_str!("../../README.md");
const MANIFEST: &str = include_str!("../../deploy/cbr0.yaml");
const SINGLE: &str = include_str!("../../deploy/kind.yaml");
const DUAL: &str = include_str!("../../deploy/kind-dual.yaml");
const IPV6: &str = include_str!("../../deploy/kind-ipv6.yaml");

/// kind on a machine without a network.
struct Kind(Machine);

impl Kind {
    fn new() -> Result<Option<Kind>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(kind) = require::part(Part::Kind)? else { return Ok(None) };
        let Some(podman) = require::part(Part::Podman)? else { return Ok(None) };
        let machine = Machine::start(&podman)?;
        machine.install_program(&kind)?;
        Ok(Some(Kind(machine)))
    }

    /// What it says about a configuration before it fails.
    fn says(&self, config: &str) -> Result<String> {
        self.0.write("/run/kind.yaml", config)?;
        self.fails("kind create cluster --config /run/kind.yaml")
    }

    /// What a script says, in a clone, before it fails.
    fn fails(&self, script: &str) -> Result<String> {
        let clone = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut command = self.0.command(&["sh", "-euc", &format!("cd {clone}\n{script}")]);
        command.env("KIND_EXPERIMENTAL_PROVIDER", "podman");
        let done = process::run(command, b"", DEADLINE)?;
        assert!(!done.status.success(), "{done:#?}");
        Ok(done.stdout + &done.stderr)
    }
}

/// What kind says when nothing is wrong and its nodes are about to be made, of an image.
fn assert_well(said: &str) {
    assert!(said.contains("failed to pull image") && said.contains("kindest/node"), "{said}");
}

#[test]
fn the_readmes_commands_are_taken_as_far_as_can_be_without_images() -> Outcome {
    let Some(kind) = Kind::new()? else { return Ok(()) };
    let block = README
        .split_once("<!-- tested: kind -->\n```sh\n")
        .and_then(|(_, rest)| rest.split_once("```").map(|(block, _)| block));
    assert_well(&kind.fails(block.unwrap_or_default())?);
    Ok(())
}

#[test]
fn the_configurations_are_taken_as_far_as_can_be_without_images() -> Outcome {
    let Some(kind) = Kind::new()? else { return Ok(()) };
    for config in [SINGLE, DUAL, IPV6] {
        assert_well(&kind.says(config)?);
    }
    let said = kind.says(&SINGLE.replace("podSubnet:", "podSubnett:"))?;
    assert!(said.contains("field podSubnett not found"), "{said}");
    let said = kind.says(&DUAL.replace("podSubnet: 10.", "podSubnet: 300."))?;
    assert!(said.contains("invalid pod subnet"), "{said}");
    Ok(())
}

#[test]
fn the_ranges_are_those_that_the_manifest_is_to_have() {
    for (config, told) in [(SINGLE, MANIFEST), (DUAL, DUAL), (IPV6, IPV6)] {
        for (key, option) in [("podSubnet", "cluster-cidr"), ("serviceSubnet", "service-cidr")] {
            let value =
                config.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
            let wanted = format!(" --{option}={}\n", value.unwrap_or("?"));
            let told = told.replace("- --", " --");
            assert!(told.contains(&wanted), "{wanted:?} is not in:\n{told}");
        }
    }
}
