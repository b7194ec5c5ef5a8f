//! podman loads the archive, and makes the same image of the Containerfile.

use std::fs;

use cbr0_tests::machine::Machine;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result, bins};
use serde_json::Value;

use crate::unpacked::Image;

const STORAGE: &str = r#"
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"#;
const BUILT: &str = "localhost/built:1";

#[test]
fn podman_loads_it_and_builds_the_same_of_the_containerfile() -> Outcome {
    let Some(image) = Image::new()? else { return Ok(()) };
    let Some(podman) = require::part(Part::Podman)? else { return Ok(()) };
    let machine = Machine::start(&podman)?;
    machine.write("/etc/containers/storage.conf", STORAGE)?;
    fs::copy(image.archive(), machine.path("/run/cbr0.tar")).unwrap();
    machine.run(&["podman", "load", "-i", "/run/cbr0.tar"])?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/Containerfile");
    let folder = bins::route_syncer()?;
    let folder = folder.parent().unwrap().to_string_lossy();
    machine.run(&["podman", "build", "--tag", BUILT, "--file", file, &folder])?;

    let name = format!("localhost/cbr0:{}", env!("CARGO_PKG_VERSION"));
    let (loaded, mut built) = (config(&machine, &name)?, config(&machine, BUILT)?);
    built["Labels"].as_object_mut().unwrap().remove("io.buildah.version");
    for key in ["Entrypoint", "Env", "Labels"] {
        assert_eq!(loaded[key], built[key], "{key}");
    }
    let files = [files(&machine, &name)?, files(&machine, BUILT)?];
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0].lines().count(), 2 * image.names("bin").len(), "{}", files[0]);
    Ok(())
}

/// What runtimes are told of an image.
fn config(machine: &Machine, image: &str) -> Result<Value> {
    let words = ["podman", "image", "inspect", "--format", "{{json .Config}}", image];
    Ok(serde_json::from_str(&machine.run(&words)?).unwrap())
}

/// The hashes of all files of an image, with their names and modes.
fn files(machine: &Machine, image: &str) -> Result<String> {
    const LIST: &str = r#"
        cd "$(podman image mount "$1")"
        find . -type f -exec sha256sum {} + -printf '%m %p\n' | sort
        podman image unmount "$1" >/dev/null
    "#;
    machine.run(&["sh", "-euc", LIST, "sh", image])
}
