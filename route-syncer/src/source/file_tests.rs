//! Edits of every kind, on a real folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// How long an update that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

struct Lab {
    folder: tempfile::TempDir,
    source: NodesFile,
}

fn list(name: &str) -> String {
    format!(r#"[{{"name": "{name}", "address": "10.100.0.3", "podCIDRs": ["10.0.2.0/24"]}}]"#)
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conf")).unwrap();
        let source = NodesFile::open(&folder.path().join("conf/nodes.json")).unwrap();
        Self { folder, source }
    }

    fn with(text: &str) -> Self {
        let lab = Self::new();
        fs::write(lab.path("conf/nodes.json"), text).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn next(&mut self) -> Result<String, String> {
        match tokio::time::timeout(PATIENCE, self.source.next()).await.expect("no update came") {
            Update::Nodes(list) => Ok(list.nodes.iter().map(|node| node.name.as_str()).collect()),
            Update::Broken(error) => Err(error.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a test on a runtime like the daemon's.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn an_edit_in_place_is_seen() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::write(lab.path("conf/nodes.json"), list("b")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "b");
    });
}

#[test]
fn a_file_renamed_into_place_is_seen_again_and_again() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        for name in ["b", "c"] {
            // Written elsewhere, so that the rename is all that happens in the folder.
            fs::write(lab.path("new"), list(name)).unwrap();
            fs::rename(lab.path("new"), lab.path("conf/nodes.json")).unwrap();
            assert_eq!(lab.next().await.unwrap(), name);
        }
    });
}

#[test]
fn a_deleted_file_is_broken_until_it_is_back() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::remove_file(lab.path("conf/nodes.json")).unwrap();
        let text = lab.next().await.unwrap_err();
        assert!(text.contains("nodes.json") && text.contains("No such file"), "{text}");
        fs::write(lab.path("conf/nodes.json"), list("a")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "a");
    });
}

#[test]
fn a_file_need_not_be_there_at_the_start() {
    run(async {
        let mut lab = Lab::new();
        assert!(lab.next().await.is_err());
        fs::write(lab.path("conf/nodes.json"), list("a")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "a");
    });
}

#[test]
fn a_broken_text_is_told_with_its_place() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::write(lab.path("conf/nodes.json"), "[\n{").unwrap();
        let text = lab.next().await.unwrap_err();
        assert!(text.contains("nodes.json") && text.contains("line 2"), "{text}");
    });
}

#[test]
fn the_same_bytes_are_no_update() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        lab.source.pending = Pending::Changed;
        assert!(lab.source.read().is_none());
        fs::write(lab.path("conf/nodes.json"), list("b")).unwrap();
        assert!(lab.source.read().is_some());
    });
}

#[test]
fn a_link_that_is_swung_is_seen_as_with_a_mounted_config_map() {
    run(async {
        let mut lab = Lab::new();
        for name in ["one", "two"] {
            fs::create_dir(lab.path(&format!("conf/{name}"))).unwrap();
            fs::write(lab.path(&format!("conf/{name}/nodes.json")), list(name)).unwrap();
        }
        symlink("one", lab.path("conf/..data")).unwrap();
        symlink("..data/nodes.json", lab.path("conf/nodes.json")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "one");
        symlink("two", lab.path("conf/..new")).unwrap();
        fs::rename(lab.path("conf/..new"), lab.path("conf/..data")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "two");
    });
}

#[test]
fn an_edit_behind_a_link_is_seen() {
    run(async {
        let mut lab = Lab::new();
        fs::create_dir(lab.path("real")).unwrap();
        fs::write(lab.path("real/list"), list("a")).unwrap();
        symlink("../real/list", lab.path("conf/nodes.json")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::write(lab.path("real/list"), list("b")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "b");
    });
}

#[test]
fn a_folder_that_goes_and_comes_back_is_found() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::rename(lab.path("conf"), lab.path("away")).unwrap();
        let text = lab.next().await.unwrap_err();
        assert!(text.contains("folder"), "{text}");
        fs::create_dir(lab.path("conf")).unwrap();
        fs::write(lab.path("conf/nodes.json"), list("b")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "b");
    });
}

#[test]
fn a_new_file_that_is_still_empty_is_no_broken_one() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        fs::remove_file(lab.path("conf/nodes.json")).unwrap();
        assert!(lab.next().await.is_err());
        let file = fs::File::create_new(lab.path("conf/nodes.json")).unwrap();
        // Nothing is told while its writer has it open: this polls once and is pending.
        assert!(lab.source.next().now_or_never().is_none());
        io::Write::write_all(&mut &file, list("b").as_bytes()).unwrap();
        drop(file);
        assert_eq!(lab.next().await.unwrap(), "b");
    });
}

#[test]
fn what_is_not_a_file_is_refused() {
    run(async {
        let mut lab = Lab::new();
        fs::create_dir(lab.path("conf/nodes.json")).unwrap();
        let text = lab.next().await.unwrap_err();
        assert!(text.contains("not a file"), "{text}");
    });
}

#[test]
fn what_is_too_large_or_no_text_is_refused_until_it_is_put_right() {
    run(async {
        let mut lab = Lab::with(&list("a"));
        assert_eq!(lab.next().await.unwrap(), "a");
        // Of this size, but with nothing on the disk.
        fs::File::create(lab.path("new")).unwrap().set_len(LARGEST + 1).unwrap();
        fs::rename(lab.path("new"), lab.path("conf/nodes.json")).unwrap();
        assert!(lab.next().await.unwrap_err().contains("more than"));
        fs::write(lab.path("new"), b"[\xff]").unwrap();
        fs::rename(lab.path("new"), lab.path("conf/nodes.json")).unwrap();
        assert!(lab.next().await.unwrap_err().contains("UTF-8"));
        fs::write(lab.path("new"), list("b")).unwrap();
        fs::rename(lab.path("new"), lab.path("conf/nodes.json")).unwrap();
        assert_eq!(lab.next().await.unwrap(), "b");
    });
}
