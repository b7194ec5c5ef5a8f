//! systemd-networkd removes routes that it did not make, whenever it sets up a link that it manages,
//! unless it is told not to (`ManageForeignRoutes=`, `networkd.conf(5)`). The routes are back in
//! milliseconds; without a daemon they stay away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;

/// What the daemon tells of each link, in a file of the link's index.
const LINKS: &str = "run/systemd/netif/links";
/// Where its configuration is, the last one first: a file hides those of its name behind it.
const FOLDERS: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
const REMEDY: &str = "systemd-networkd manages {links}, and removes our routes whenever it sets it up; \
                      write \"[Network]\\nManageForeignRoutes=no\" to \
                      /etc/systemd/networkd.conf.d/10-cbr0.conf and restart it";

/// Whether systemd-networkd, with its files below this folder, leaves routes by these links alone.
pub fn check(root: &Path, links: &BTreeSet<(u32, String)>) -> Finding {
    let managed: Vec<&str> = links
        .iter()
        .filter(|(index, _)| is_managed(root, *index))
        .map(|(_, name)| name.as_str())
        .collect();
    if managed.is_empty() || !manages_foreign_routes(root) {
        return Finding::ok("");
    }
    Finding::lacking(REMEDY.replace("{links}", &managed.join(" and ")))
}

fn is_managed(root: &Path, link: u32) -> bool {
    let told = fs::read_to_string(root.join(LINKS).join(link.to_string()));
    told.is_ok_and(|text| !text.lines().any(|line| line == "ADMIN_STATE=unmanaged"))
}

/// The last word of all files counts, which are read in this order: the main file, then the drop-ins
/// by their names.
fn manages_foreign_routes(root: &Path) -> bool {
    let main = FOLDERS.map(|folder| root.join(folder).join("systemd/networkd.conf"));
    let main = main.into_iter().find(|path| path.exists());
    let texts =
        main.into_iter().chain(drop_ins(root)).filter_map(|path| fs::read_to_string(path).ok());
    texts.filter_map(|text| setting(&text)).next_back().unwrap_or(true)
}

fn drop_ins(root: &Path) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    // Those that hide others come last.
    for folder in FOLDERS.into_iter().rev() {
        let entries = fs::read_dir(root.join(folder).join("systemd/networkd.conf.d"));
        for entry in entries.into_iter().flatten().flatten() {
            by_name.insert(entry.file_name(), entry.path());
        }
    }
    by_name.retain(|name, _| Path::new(name).extension().is_some_and(|end| end == "conf"));
    by_name.into_values().collect()
}

/// What a file says, if it says anything.
fn setting(text: &str) -> Option<bool> {
    let mut is_network = false;
    let mut said = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_network = line == "[Network]";
        } else if is_network
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "ManageForeignRoutes"
        {
            let no = ["no", "n", "false", "f", "off", "0"];
            said = Some(!no.contains(&value.trim().to_lowercase().as_str()));
        }
    }
    said
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn lacks(root: &Path) -> bool {
        let links = BTreeSet::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())]);
        let found = check(root, &links);
        let is_lacking = found != Finding::ok("");
        assert_eq!(is_lacking, found.words.contains("manages eth0, and"), "{found:?}");
        is_lacking
    }

    #[test]
    fn routes_are_safe_without_it_and_where_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(!lacks(root), "it does not run");
        write(root, "run/systemd/netif/links/2", "ADMIN_STATE=unmanaged\n");
        assert!(!lacks(root), "it leaves the link alone");
        write(root, "run/systemd/netif/links/2", "ADMIN_STATE=configured\n");
        assert!(lacks(root));
        write(
            root,
            "usr/lib/systemd/networkd.conf.d/50-a.conf",
            "[Network]\nManageForeignRoutes=no",
        );
        assert!(!lacks(root));
        write(root, "etc/systemd/networkd.conf", "[Network]\nManageForeignRoutes = yes\n");
        assert!(!lacks(root), "a drop-in comes after the main file");
        write(root, "etc/systemd/networkd.conf.d/60-b.conf", "[Network]\nManageForeignRoutes=yes");
        assert!(lacks(root), "the last name counts");
        write(root, "etc/systemd/networkd.conf.d/60-b.conf", "[DHCPv4]\nManageForeignRoutes=yes");
        assert!(!lacks(root), "of another section");
        write(root, "etc/systemd/networkd.conf.d/50-a.conf", "");
        assert!(lacks(root), "a file in /etc hides that of its name");
    }
}
