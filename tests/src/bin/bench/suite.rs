//! Those that are compared: folders of plugins, and the floor.

use std::collections::BTreeMap;
use std::env::{self, consts::ARCH};
use std::path::{Path, PathBuf};

use cbr0_tests::plugin::Call;
use cbr0_tests::require::Part;
use cbr0_tests::{LabError, Result, bins};

use crate::say;

/// The label of ours.
pub(crate) const OURS: &str = "cbr0";
/// The label of the bare program that does only what must be done.
pub(crate) const FLOOR: &str = "floor";
/// The label of the reference's release that ours is compared with.
pub(crate) const REFERENCE: &str = "reference";

/// The label of an older build of it, Debian's.
pub(crate) const REFERENCE_DEBIAN: &str = "reference (Debian)";

/// The plugins that the floor stands for.
const FLOORS: [&str; 3] = ["bridge", "ptp", "host-local"];

/// One of those compared.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    /// What the tables call it.
    pub(crate) label: String,
    kind: Kind,
    /// What its processes find in their environment besides.
    env: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
enum Kind {
    Plugins(PathBuf),
    Floor(PathBuf),
}

impl Suite {
    /// The floor, ours, the reference as far as it was fetched, and these folders.
    ///
    /// # Errors
    /// Ours are not built, or a folder is not there.
    pub(crate) fn all(peers: &[PathBuf]) -> Result<Vec<Suite>> {
        let floor = Kind::Floor(bins::program("floor")?);
        let mut suites = vec![
            Suite { label: FLOOR.to_owned(), kind: floor, env: BTreeMap::new() },
            Suite::plugins(OURS, bins::plugin_dir()?, BTreeMap::new()),
        ];
        let firewall = firewall();
        for (label, part) in
            [(REFERENCE, Part::Reference), (REFERENCE_DEBIAN, Part::ReferenceDebian)]
        {
            match part.find() {
                Some(folder) => suites.push(Suite::plugins(label, folder, firewall.clone())),
                None => {
                    say(&format!("bench: no {label}: scripts/parts {} fetches it", part.name()));
                }
            }
        }
        for folder in peers {
            let missing =
                || LabError::Wrong(format!("--peer {}: no such folder", folder.display()));
            let folder = folder.canonicalize().map_err(|_| missing())?;
            let label = folder.to_string_lossy().into_owned();
            suites.push(Suite::plugins(&label, folder, firewall.clone()));
        }
        Ok(suites)
    }

    fn plugins(label: &str, folder: PathBuf, env: BTreeMap<String, String>) -> Suite {
        Suite { label: label.to_owned(), kind: Kind::Plugins(folder), env }
    }

    /// Whether it is the floor, which is told in its environment what plugins read in their
    /// configuration.
    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor(_))
    }

    /// The binary behind a plugin's name.
    pub(crate) fn program(&self, plugin: &str) -> PathBuf {
        match &self.kind {
            Kind::Plugins(folder) => folder.join(plugin),
            Kind::Floor(program) => program.clone(),
        }
    }

    /// Whether it has this plugin, or stands for it.
    pub(crate) fn has(&self, plugin: &str) -> bool {
        match &self.kind {
            Kind::Plugins(folder) => folder.join(plugin).is_file(),
            Kind::Floor(_) => FLOORS.contains(&plugin),
        }
    }

    /// A call of a plugin, as yet without a configuration and an attachment.
    pub(crate) fn call(&self, plugin: &str, verb: &str) -> Call {
        let call = Call::new(self.program(plugin), verb);
        let call = match &self.kind {
            Kind::Plugins(folder) => call.env("CNI_PATH", folder.to_string_lossy()),
            Kind::Floor(_) => call.args([plugin]),
        };
        self.env.iter().fold(call, |call, (name, value)| call.env(name, value))
    }
}

/// What the reference needs to find `iptables` and `nft`, and they their libraries.
pub(crate) fn firewall() -> BTreeMap<String, String> {
    let Some(folder) = Part::Firewall.find() else { return BTreeMap::new() };
    let unpacked = folder.join("unpacked");
    let libraries =
        ["usr/lib", "lib"].map(|lib| unpacked.join(lib).join(format!("{ARCH}-linux-gnu")));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    BTreeMap::from([
        ("PATH".to_owned(), format!("{}:{}", text(&folder), env::var("PATH").unwrap_or_default())),
        ("LD_LIBRARY_PATH".to_owned(), format!("{}:{}", text(&libraries[0]), text(&libraries[1]))),
        ("XTABLES_LIBDIR".to_owned(), text(&libraries[0].join("xtables"))),
    ])
}
