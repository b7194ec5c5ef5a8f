//! An image, made and unpacked as a runtime does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cbr0_tests::{LabError, Result, process, require};
use serde_json::Value;
use tempfile::TempDir;

/// Many times what a command takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Image {
    /// Everything is in it.
    folder: TempDir,
    /// What runtimes are told of the image.
    pub(crate) config: Value,
}

impl Image {
    /// `None` where binaries are not as they are delivered, or may not be run in another root.
    pub(crate) fn new() -> Result<Option<Image>> {
        if !require::release()? || !require::root()? {
            return Ok(None);
        }
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        make(&archive)?;
        unpack(&archive, &folder.path().join("image"))?;
        let mut image = Image { folder, config: Value::Null };
        let manifest = image.json("manifest.json");
        image.config = image.json(manifest[0]["Config"].as_str().unwrap());
        let layers = manifest[0]["Layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1, "{manifest:#}");
        unpack(&image.file(layers[0].as_str().unwrap()), &image.root())?;
        Ok(Some(image))
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// The root of its containers.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("image").join(path)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.file(path)).unwrap()).unwrap()
    }

    /// The names in a folder of a container's root, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A program of the image with that as its root, where `/proc` is mounted.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        const MOUNTED: &str =
            r#"mkdir -p "$1/proc"; mount --rbind /proc "$1/proc"; exec chroot "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", MOUNTED, "sh"]);
        command.arg(self.root()).args(words);
        command
    }
}

/// Makes the archive.
pub(crate) fn make(archive: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image");
    let mut command = Command::new(script);
    command.arg(archive);
    succeed(command)
}

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    fs::create_dir(into).unwrap();
    let mut command = Command::new("tar");
    command.arg("-xf").arg(archive).arg("-C").arg(into);
    succeed(command)
}

fn succeed(command: Command) -> Result<()> {
    let done = process::run(command, b"", DEADLINE)?;
    if done.status.success() { Ok(()) } else { Err(LabError::Wrong(format!("{done:#?}"))) }
}
