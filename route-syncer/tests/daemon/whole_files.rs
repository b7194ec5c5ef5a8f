//! The files for others are whole whenever they are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use inotify::{Inotify, WatchMask};

use crate::lab::{Node, PATIENCE, entry, wait_readable};

const CHANGES: u8 = 200;

/// The list in which this node has the subnet of this number.
fn list(number: u8) -> String {
    let own = entry(1).replace("10.0.1.0", &format!("10.1.{number}.0"));
    format!("[{own}, {}]", entry(2))
}

/// Reads the files whenever something happens in their folder. Tells of the text that it reads
/// last of each, and stops when nobody wants to know.
fn follow(folder: &Path, files: &[PathBuf; 2], told: &Sender<[String; 2]>, end: &AtomicBool) {
    let mut inotify = Inotify::init().unwrap();
    let all = WatchMask::CREATE | WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::MOVE;
    inotify.watches().add(folder, all).unwrap();
    let mut buffer = [0; 4096];
    while !end.load(Ordering::Relaxed) {
        if told.send(files.each_ref().map(|path| read(path))).is_err() {
            return;
        }
        wait_readable(&inotify, Instant::now() + PATIENCE);
        let _ = inotify.read_events(&mut buffer).map(Iterator::count);
    }
}

/// The text of a file, which is whole; none while there is no file yet.
fn read(path: &Path) -> String {
    let Ok(text) = fs::read_to_string(path) else { return String::new() };
    if path.extension().is_some_and(|extension| extension == "env") {
        let keys = ["FLANNEL_NETWORK=", "FLANNEL_SUBNET=", "FLANNEL_MTU=", "FLANNEL_IPMASQ=true\n"];
        let lines = ["FLANNEL_IPV6_NETWORK=", "FLANNEL_IPV6_SUBNET="];
        let is_whole = keys.iter().chain(&lines).all(|key| text.contains(key));
        assert!(is_whole && text.ends_with("FLANNEL_IPMASQ=true\n"), "{text:?}");
    } else {
        let parsed: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
        assert!(parsed["plugins"][0]["type"].is_string(), "{text}");
        assert!(text.ends_with("}\n"), "{text:?}");
    }
    text
}

#[test]
fn p29_conflist_and_subnet_env_are_never_seen_in_part() {
    let node = Node::new(&list(0));
    let folder = node.folder.path().join("net.d");
    fs::create_dir(&folder).unwrap();
    let files = [folder.join("10-cbr0.conflist"), folder.join("subnet.env")];
    let [conflist, env] = files.each_ref().map(|path| path.to_str().unwrap());
    let options = ["--conflist", conflist, "--subnet-env", env, "--cluster-cidr", "fd00::/16"];
    let _daemon = node.start_with(&options);
    let (end, (sender, told)) = (AtomicBool::new(false), channel());
    thread::scope(|scope| {
        let (end, folder, files) = (&end, &folder, &files);
        let following = scope.spawn(move || follow(folder, files, &sender, end));
        // Without any event to go by, as often as can be.
        let reading = scope.spawn(move || {
            while !end.load(Ordering::Relaxed) {
                files.iter().for_each(|path| drop(read(path)));
            }
        });
        for number in (1..=CHANGES).chain([0]) {
            node.list(&list(number));
            let subnet = format!("10.1.{number}.");
            let deadline = Instant::now() + PATIENCE;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                // It also ends when a reader has found half a file.
                let Ok(texts) = told.recv_timeout(left) else { break };
                if reading.is_finished() || texts.iter().all(|text| text.contains(&subnet)) {
                    break;
                }
            }
        }
        drop(told);
        end.store(true, Ordering::Relaxed);
        fs::write(folder.join("end"), "").unwrap();
        following.join().unwrap();
        reading.join().unwrap();
    });
    let last = fs::read_to_string(env).unwrap();
    assert!(last.contains("FLANNEL_SUBNET=10.1.0.1/24"), "{last}");
}
