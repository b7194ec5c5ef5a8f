//! Disks that are full or cannot be written, and files that nobody should have put there: a clear
//! error or none, nothing lost, and DEL removes what it can.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;

use cbr0_tests::error::Context;
use cbr0_tests::plugin::Answer;
use cbr0_tests::{Outcome, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::fixture::{Holder, Lab, NETWORK, Network, Request, given};

fn small() -> Value {
    json!({"subnet": "10.1.2.0/28"})
}

fn reserved<'a>(of: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<IpAddr, String> {
    let one = |(address, container): (&str, &str)| {
        (address.parse().unwrap(), Holder::eth0(container).contents())
    };
    of.into_iter().map(one).collect()
}

/// A failure that names the place and says what to do.
#[track_caller]
fn assert_clear(answer: &Answer, code: u64, place: &Path) {
    let error = answer.failure().unwrap_or_else(|| panic!("no error: {answer:?}"));
    assert_eq!(error.code, code, "{error}");
    assert!(
        error.msg.contains(&*place.to_string_lossy()),
        "{} is not in: {error}",
        place.display()
    );
    assert!(!error.details.is_empty(), "no remedy: {error}");
}

#[track_caller]
fn assert_succeeds(answer: &Answer) {
    assert_eq!(answer.failure(), None);
}

/// Runs `work` in a thread with mounts of its own, on a filesystem in memory that is mounted with
/// `options`.
fn on_filesystem(options: &str, work: impl FnOnce(&Path) -> Result<()> + Send) -> Result<()> {
    let folder = tempfile::tempdir().context(|| "make a temporary folder".to_owned())?;
    let path = folder.path();
    let mounted = || {
        let nothing = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).context(|| "leave the machine's mounts".to_owned())?;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .context(|| "keep mounts private".to_owned())?;
        mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), Some(options))
            .context(|| format!("mount a filesystem on {}", path.display()))?;
        work(path)
    };
    thread::scope(|scope| match scope.spawn(mounted).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The network's plugin as a process.
struct Scene<'a> {
    lab: &'a Lab,
    network: Network,
}

impl Scene<'_> {
    fn new(lab: &Lab) -> Result<Scene<'_>> {
        Ok(Scene { lab, network: Network::new(&small())? })
    }

    fn ask(&self, verb: &'static str, container: &str) -> Result<Answer> {
        let request = Request::new(verb, &Holder::eth0(container));
        self.lab.run(&self.network.call(&self.lab.ours, &request))
    }

    fn gc(&self, valid: &[Holder]) -> Result<Answer> {
        self.lab.run(&self.network.call(&self.lab.ours, &Request::gc(valid)))
    }

    /// The address that is given.
    fn add(&self, container: &str) -> Result<String> {
        Ok(given(&self.ask("ADD", container)?)?[0].to_string())
    }
}

/// What a full disk lacks.
enum Lack {
    Blocks,
    Inodes,
}

/// Takes every block or inode; the folder to remove for them to be free again.
fn exhaust(lack: &Lack, mounted: &Path) -> Result<std::path::PathBuf> {
    let folder = mounted.join("filler");
    fs::create_dir(&folder).context(|| format!("make {}", folder.display()))?;
    match lack {
        Lack::Blocks => {
            let mut file = File::create(folder.join("0")).context(|| "make a file".to_owned())?;
            while file.write_all(&[0; 4096]).is_ok() {}
        }
        Lack::Inodes => {
            let mut numbers = 0..;
            while numbers
                .next()
                .is_some_and(|number| File::create(folder.join(number.to_string())).is_ok())
            {
            }
        }
    }
    Ok(folder)
}

fn on_a_full_disk(lack: &Lack) -> Result<()> {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    on_filesystem("size=1m,nr_inodes=200", |mounted| {
        let network = Network::at(&mounted.join("networks"), &small());
        let scene = Scene { lab, network };
        for container in ["a", "b", "c"] {
            scene.add(container)?;
        }
        let filler = exhaust(lack, mounted)?;
        let held = scene.network.reservations()?;
        for _twice in 0..2 {
            assert_clear(&scene.ask("ADD", "late")?, 5, &scene.network.directory());
            assert_eq!(scene.network.reservations()?, held);
        }
        assert_succeeds(&scene.ask("CHECK", "a")?);
        assert_succeeds(&scene.ask("DEL", "late")?);
        assert_succeeds(&scene.ask("DEL", "a")?);
        assert_eq!(scene.network.reservations()?, reserved([("10.1.2.3", "b"), ("10.1.2.4", "c")]));
        assert_succeeds(&scene.gc(&[Holder::eth0("c")])?);
        assert_eq!(scene.network.reservations()?, reserved([("10.1.2.4", "c")]));
        assert_eq!(scene.network.strays()?, Vec::<String>::new());

        fs::remove_dir_all(&filler).context(|| format!("remove {}", filler.display()))?;
        scene.add("late")?;
        assert_succeeds(&scene.ask("DEL", "c")?);
        assert_succeeds(&scene.ask("DEL", "late")?);
        assert_eq!(scene.network.reservations()?, reserved([]));
        Ok(())
    })
}

#[test]
fn without_a_block_add_says_so_and_del_works() -> Outcome {
    Ok(on_a_full_disk(&Lack::Blocks)?)
}

#[test]
fn without_an_inode_add_says_so_and_del_works() -> Outcome {
    Ok(on_a_full_disk(&Lack::Inodes)?)
}

#[test]
fn a_first_add_on_a_full_disk_leaves_nothing() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    on_filesystem("size=1m,nr_inodes=200", |mounted| {
        let data_dir = mounted.join("networks");
        let scene = Scene { lab, network: Network::at(&data_dir, &small()) };
        exhaust(&Lack::Inodes, mounted)?;
        assert_clear(&scene.ask("ADD", "a")?, 5, &data_dir);
        assert_clear(&scene.ask("STATUS", "a")?, 50, mounted);
        assert_succeeds(&scene.ask("DEL", "a")?);
        assert!(!data_dir.exists());
        Ok(())
    })?;
    Ok(())
}

#[test]
fn on_a_read_only_mount_nothing_is_lost() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    on_filesystem("size=1m", |mounted| {
        let data_dir = mounted.join("networks");
        let scene = Scene { lab, network: Network::at(&data_dir, &small()) };
        let remount = |flags: MsFlags| {
            let nothing = None::<&str>;
            mount(nothing, mounted, nothing, flags | MsFlags::MS_REMOUNT, nothing)
                .context(|| format!("remount {}", mounted.display()))
        };
        scene.add("a")?;
        remount(MsFlags::MS_RDONLY)?;
        assert_clear(&scene.ask("ADD", "b")?, 5, &data_dir);
        assert_clear(&scene.ask("DEL", "a")?, 5, &data_dir);
        assert_clear(&scene.gc(&[])?, 5, &data_dir);
        assert_clear(&scene.ask("STATUS", "a")?, 50, &data_dir);
        assert_succeeds(&scene.ask("CHECK", "a")?);
        assert_succeeds(&scene.ask("DEL", "nobody")?);
        assert_eq!(scene.network.reservations()?, reserved([("10.1.2.2", "a")]));

        remount(MsFlags::empty())?;
        assert_eq!(scene.add("b")?, "10.1.2.3");
        assert_succeeds(&scene.ask("DEL", "a")?);
        assert_eq!(scene.network.reservations()?, reserved([("10.1.2.3", "b")]));
        Ok(())
    })?;
    Ok(())
}

#[test]
fn who_may_not_write_is_told_so() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    // The folder of the binaries may be one that nobody but root can enter.
    let program = folder.path().join("host-local");
    fs::copy(&lab.ours, &program)?;
    let data_dir = folder.path().join("networks");
    let scene = Scene { lab, network: Network::at(&data_dir, &small()) };
    let as_nobody = |verb| {
        let call = scene.network.call(&program, &Request::new(verb, &Holder::eth0("a")));
        lab.run(&call.under(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]))
    };
    assert_clear(&as_nobody("ADD")?, 5, &data_dir);
    assert_clear(&as_nobody("STATUS")?, 50, folder.path());
    assert_succeeds(&as_nobody("DEL")?);
    assert!(!data_dir.exists());

    scene.add("a")?;
    for (verb, code) in [("ADD", 5), ("DEL", 5), ("CHECK", 5), ("STATUS", 50)] {
        assert_clear(&as_nobody(verb)?, code, &scene.network.directory());
    }
    assert_eq!(scene.network.reservations()?, reserved([("10.1.2.2", "a")]));
    assert_succeeds(&scene.ask("DEL", "a")?);
    assert_eq!(scene.network.reservations()?, reserved([]));
    Ok(())
}

/// What somebody put there stays; its address is not given, and everybody else is served.
#[test]
fn what_is_no_reservation_is_in_nobodys_way() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    let scene = Scene::new(lab)?;
    let at = |name: &str| scene.network.path(name);
    scene.add("before")?;
    fs::write(at("10.1.2.3"), [0, 0xff, 0xfe, b'\r', b'\n', 0x80])?;
    fs::write(at("10.1.2.4"), vec![b'x'; 1 << 20])?;
    fs::create_dir_all(at("10.1.2.5/deep"))?;
    symlink("/nowhere", at("10.1.2.6"))?;
    symlink("10.1.2.2", at("10.1.2.7"))?;
    mkfifo(&at("10.1.2.8"), Mode::S_IRWXU)?;
    mkfifo(&at("pipe"), Mode::S_IRWXU)?;
    fs::write(at("notes"), "after\r\nnet9")?;
    let strange = ["10.1.2.3", "10.1.2.4", "10.1.2.5/deep", "10.1.2.6", "10.1.2.7", "10.1.2.8"];

    assert_eq!(scene.add("after")?, "10.1.2.9");
    for container in ["before", "after"] {
        assert_succeeds(&scene.ask("CHECK", container)?);
    }
    assert_succeeds(&scene.gc(&[Holder::eth0("after")])?);
    assert!(!at("10.1.2.2").exists(), "GC removes what is nobody's");
    assert_succeeds(&scene.ask("DEL", "after")?);
    assert!(!at("10.1.2.9").exists());
    for name in strange.into_iter().chain(["pipe", "notes"]) {
        assert!(at(name).symlink_metadata().is_ok(), "{name} is gone");
    }
    Ok(())
}

#[test]
fn a_spoilt_last_reserved_ip_begins_the_round_anew() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    for content in [&b""[..], b"\xff\xfe\x00", b"10.1.2", b"192.0.2.7", b"::1", &[b'1'; 1 << 20]] {
        let scene = Scene::new(lab)?;
        scene.network.write("last_reserved_ip.0", content)?;
        assert_eq!(scene.add("a")?, "10.1.2.2");
        assert_eq!(scene.add("b")?, "10.1.2.3");
        assert_eq!(fs::read_to_string(scene.network.path("last_reserved_ip.0"))?, "10.1.2.3");
    }
    Ok(())
}

/// A directory where a file has to be.
#[test]
fn what_cannot_be_replaced_is_named_and_takes_nothing_with_it() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    for name in ["last_reserved_ip.0", "lock"] {
        let scene = Scene::new(lab)?;
        let path = scene.network.path(name);
        fs::create_dir_all(&path)?;
        assert_clear(&scene.ask("ADD", "a")?, 5, &path);
        assert_eq!(scene.network.reservations()?, reserved([]), "{name}");
        fs::remove_dir(&path)?;
        assert_eq!(scene.add("a")?, "10.1.2.2");
    }
    Ok(())
}

#[test]
fn a_file_where_a_folder_has_to_be_is_named() -> Outcome {
    let Some(lab) = &Lab::new()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    for place in [folder.path().join("file"), folder.path().join("networks").join(NETWORK)] {
        fs::create_dir_all(place.parent().unwrap())?;
        fs::write(&place, "")?;
        let data_dir =
            folder.path().join(if place.ends_with("file") { "file" } else { "networks" });
        let scene = Scene { lab, network: Network::at(&data_dir, &small()) };
        for (verb, code) in [("ADD", 5), ("DEL", 5), ("STATUS", 50)] {
            assert_clear(&scene.ask(verb, "a")?, code, &place);
        }
    }
    Ok(())
}
