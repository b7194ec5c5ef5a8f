//! Whether container runtimes read our network configuration: of all files of the folder, they take
//! the one whose name comes first.

use std::fs;
use std::path::Path;

use crate::status::Report;

/// What container runtimes read.
const ENDS: [&str; 3] = ["conf", "conflist", "json"];

/// What is wrong with the configuration that the daemon writes, if it does write one.
pub(super) fn wrong(report: &Report) -> Option<String> {
    look(report.conflist.as_deref()?)
}

fn look(path: &Path) -> Option<String> {
    let (folder, own) = (path.parent()?, path.file_name()?);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| {
        let end = Path::new(name).extension().unwrap_or_default();
        ENDS.iter().any(|read| end == *read)
    });
    let names: Vec<_> = names.collect();
    if !names.iter().any(|name| name == own) {
        return Some(format!(
            "the network configuration {} is not there, so no Pod can be made; a running daemon writes it \
             when its first sync is done, and logs why it cannot",
            path.display()
        ));
    }
    let first = names.into_iter().min().filter(|first| first != own)?;
    Some(format!(
        "container runtimes read {}, which comes before ours, {}; remove it, or give ours a name that \
         comes first with --conflist",
        folder.join(first).display(),
        path.display()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_comes_first_is_told_unless_it_is_ours_or_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-cbr0.conflist");
        assert!(look(&path).unwrap().contains("is not there"));
        for name in ["10-cbr0.conflist", "99-other.conf", "05-other.conflist.saved", "README"] {
            fs::write(folder.path().join(name), "").unwrap();
            if name.starts_with("10") || path.exists() {
                assert_eq!(look(&path), None, "{name}");
            }
        }
        for name in ["05-other.json", "05-other.conf", "05-other.conflist"] {
            fs::write(folder.path().join(name), "").unwrap();
            let words = look(&path).unwrap();
            assert!(words.contains(&format!("/{name}, which comes before")), "{words}");
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}
