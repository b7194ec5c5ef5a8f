//! A folder of plugins as a node may have it before an installation, and what is to go there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context;
use cbr0_tests::files::{Files, files};
use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::{Result, bins};

/// The two that the scene has something of already come first.
pub(crate) const PLUGINS: &[&str] = &[
    "bridge",
    "host-local",
    "bandwidth",
    "dummy",
    "firewall",
    "host-device",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];
pub(crate) const FOREIGN: &str = "#!/bin/sh\nexec /usr/lib/cni/bridge\n";

/// What can be done to the folder.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Install,
    Uninstall,
}

/// A host where `bridge` is somebody else's, `host-local` is ours of an older version, the others
/// are not there, and `flannel` is none of our business.
pub(crate) struct Scene {
    pub(crate) host: Node,
    pub(crate) bin_dir: PathBuf,
    /// The folder of the plugins that were built.
    pub(crate) built: PathBuf,
    pub(crate) before: Files,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let host = Node::create("host")?;
        let (bin_dir, built) = (host.folder().join("bin"), host.folder().join("built"));
        for folder in [&bin_dir, &built] {
            fs::create_dir(folder).context(|| format!("make {}", folder.display()))?;
        }
        for name in PLUGINS.iter().copied() {
            program(&built.join(name), &stand_in(env!("CARGO_PKG_VERSION"), name), 0o755)?;
        }
        program(&bin_dir.join("bridge"), FOREIGN.as_bytes(), 0o700)?;
        program(&bin_dir.join("host-local"), &stand_in("0.0.9", "host-local"), 0o755)?;
        symlink("/usr/lib/cni/flannel", bin_dir.join("flannel"))
            .context(|| "make a link".to_owned())?;
        let before = files(&bin_dir)?;
        Ok(Scene { host, bin_dir, built, before })
    }

    /// The call of `route-syncer install` or `uninstall`.
    pub(crate) fn call(&self, verb: Verb) -> Result<Call> {
        let call = Call::bare(bins::route_syncer()?);
        let bin_dir = self.bin_dir.to_string_lossy();
        Ok(match verb {
            Verb::Install => {
                let built = self.built.to_string_lossy();
                call.args(["install", "--bin-dir", &*bin_dir, "--from", &*built])
            }
            Verb::Uninstall => call.args(["uninstall", "--bin-dir", &*bin_dir]),
        })
    }

    /// Runs it, and returns what it said it does.
    pub(crate) fn run(&self, verb: Verb) -> Result<String> {
        let answer = self.call(verb)?.run(&self.host)?;
        assert_eq!(answer.code, Some(0), "{verb:?}: {answer:?}");
        Ok(answer.stdout.replace(&*self.host.folder().to_string_lossy(), ""))
    }

    /// Runs an install that must fail, and returns why it did.
    pub(crate) fn refused(&self) -> Result<String> {
        let Answer { code, stderr, .. } = self.call(Verb::Install)?.run(&self.host)?;
        assert_eq!(code, Some(1), "{stderr}");
        Ok(stderr.replace(&*self.host.folder().to_string_lossy(), ""))
    }

    /// What each file of the folder holds.
    pub(crate) fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let names = files(&self.bin_dir)?.into_keys();
        // The link leads nowhere.
        let content = |name: String| {
            let content = fs::read(self.bin_dir.join(&name)).unwrap_or_default();
            (name, content)
        };
        Ok(names.map(content).collect())
    }
}

/// Writes a program.
pub(crate) fn program(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .context(|| format!("write {}", path.display()))
}

/// A program that bears the note of ours (`kernel::elf_note`), and nothing that could be run: an
/// ELF header, a program header that leads to the note, and a name to tell it by.
pub(crate) fn stand_in(version: &str, name: &str) -> Vec<u8> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const CONTENT: usize = 32;
    let mut note = Vec::new();
    for number in [5, CONTENT as u32, 1] {
        note.extend_from_slice(&number.to_ne_bytes());
    }
    note.extend_from_slice(b"cbr0\0\0\0\0");
    note.extend_from_slice(version.as_bytes());
    note.resize(12 + 8 + CONTENT, 0);

    let mut file = vec![0; HEADER + PROGRAM_HEADER];
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, order]);
    file[0x20..0x28].copy_from_slice(&HEADER.to_ne_bytes());
    file[0x36..0x38].copy_from_slice(&(PROGRAM_HEADER as u16).to_ne_bytes());
    file[0x38..0x3a].copy_from_slice(&1_u16.to_ne_bytes());
    file[HEADER..HEADER + 4].copy_from_slice(&4_u32.to_ne_bytes());
    file[HEADER + 8..HEADER + 16].copy_from_slice(&(HEADER + PROGRAM_HEADER).to_ne_bytes());
    file[HEADER + 0x20..HEADER + 0x28].copy_from_slice(&note.len().to_ne_bytes());
    file.extend_from_slice(&note);
    file.extend_from_slice(name.as_bytes());
    file
}
