//! Everything real that the laboratory runs: where it is.

use std::env;
use std::path::{Path, PathBuf};

use cbr0_tests::{LabError, Result};

/// The parts, each by its name in the folder of parts.
pub(crate) struct Programs {
    folder: PathBuf,
    manifest: PathBuf,
    /// The archive of cbr0's image.
    pub(crate) image: PathBuf,
    /// A folder that is seen in Pods: programs that need nothing but themselves.
    pub(crate) for_pods: PathBuf,
}

/// What has to be there.
const PARTS: [&str; 11] = [
    "containerd",
    "crictl",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "openssl",
    "reference",
];

impl Programs {
    /// Those that the environment names, as `scripts/test-kubernetes` sets it.
    pub(crate) fn find() -> Result<Self> {
        let programs = Programs {
            folder: named("CBR0_PARTS_DIR")?,
            manifest: named("CBR0_MANIFEST")?,
            image: named("CBR0_IMAGE")?,
            for_pods: named("CBR0_POD_PROGRAMS")?,
        };
        match PARTS.iter().find(|name| !programs.folder.join(name).exists()) {
            None => Ok(programs),
            Some(name) => Err(LabError::Wrong(format!(
                "the part {name} is missing: scripts/parts {name} fetches it"
            ))),
        }
    }

    /// The manifest by which people make cbr0 the network of a cluster.
    pub(crate) fn manifest(&self) -> String {
        word(&self.manifest)
    }

    /// One of them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// As [`Programs::path`], as a word of a command.
    pub(crate) fn word(&self, name: &str) -> String {
        word(&self.path(name))
    }
}

/// A path as a word of a command.
pub(crate) fn word(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn named(variable: &str) -> Result<PathBuf> {
    let missing =
        || LabError::Wrong(format!("{variable} is not set: start it by scripts/test-kubernetes"));
    env::var_os(variable).map(PathBuf::from).ok_or_else(missing)
}
