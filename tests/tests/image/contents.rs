//! The image holds the static binaries and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cbr0_tests::{Outcome, bins, process};
use serde_json::json;

use crate::unpacked::{DEADLINE, Image, make};

#[test]
fn it_holds_the_syncer_and_what_it_installs_and_nothing_else() -> Outcome {
    let Some(image) = Image::new()? else { return Ok(()) };
    assert_eq!(image.names(""), ["bin"]);
    let install = ["/bin/route-syncer", "install", "--dry-run", "--bin-dir", "/bin-dir"];
    let done = process::run(image.command(&install), b"", DEADLINE)?;
    assert!(done.status.success(), "{done:#?}");
    let written = done.stdout.lines().filter_map(|line| line.strip_prefix("write /bin-dir/"));
    let plugins: Vec<&str> = written.filter_map(|rest| rest.split(',').next()).collect();
    let mut expected = plugins.clone();
    expected.push("route-syncer");
    expected.sort_unstable();
    assert_eq!(image.names("bin"), expected);

    for name in expected {
        let file = image.root().join("bin").join(name);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755, "{name}");
        assert!(fs::read(&file).unwrap() == fs::read(bins::program(name)?).unwrap(), "{name}");
    }
    // Nothing that they would have to be linked with is there.
    for name in plugins {
        let mut command = image.command(&[&format!("/bin/{name}")]);
        command.env("CNI_COMMAND", "VERSION");
        let done = process::run(command, br#"{"cniVersion": "1.0.0"}"#, DEADLINE)?;
        assert!(done.stdout.contains("supportedVersions"), "{name}: {done:#?}");
    }
    Ok(())
}

#[test]
fn it_is_the_same_byte_for_byte_when_made_again() -> Outcome {
    let Some(image) = Image::new()? else { return Ok(()) };
    let again = image.archive().with_extension("again");
    make(&again)?;
    assert!(fs::read(image.archive()).unwrap() == fs::read(again).unwrap());
    Ok(())
}

#[test]
fn it_says_what_the_containerfile_says() -> Outcome {
    const CONTAINERFILE: &str = include_str!("../../../deploy/Containerfile");
    let Some(image) = Image::new()? else { return Ok(()) };
    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], json!(["/bin/route-syncer"]));
    assert!(CONTAINERFILE.contains("ENTRYPOINT [\"/bin/route-syncer\"]"));
    assert_eq!(config["Env"], json!(["PATH=/bin"]));
    assert!(CONTAINERFILE.contains("ENV PATH=/bin\n"));
    let labels = config["Labels"].as_object().unwrap();
    for (name, value) in labels {
        assert!(CONTAINERFILE.contains(&format!("{name}={value}")), "{name}");
    }
    assert_eq!(labels.len(), CONTAINERFILE.matches("org.opencontainers.image.").count());
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    // The manifest wants this one.
    let name = format!("localhost/cbr0:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(image.json("manifest.json")[0]["RepoTags"], json!([name]));
    let named = &image.json("index.json")["manifests"][0]["annotations"];
    assert_eq!(named["io.containerd.image.name"], json!(name));
    let wanted = format!("image: {name} # SET");
    assert_eq!(include_str!("../../../deploy/cbr0.yaml").matches(&wanted).count(), 2);
    Ok(())
}
