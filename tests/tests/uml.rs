//! The laboratory in user-mode Linux tells how tests inside end, and has what it is there for.
//!
//! The inner test is one of this file, which does nothing but what a variable tells it to.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process, thread};

use cbr0_tests::uml::{End, Ran, Uml};
use cbr0_tests::{Outcome, Result};
use kernel::Rtnl;
use kernel::netlink::Message;
use nix::libc;

const TASK: &str = "CBR0_UML_TASK";
/// Many times what it takes to boot and to end.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn inside() {
    match env::var(TASK).as_deref() {
        Ok("fail") => panic!("as told"),
        Ok("abort") => process::abort(),
        Ok("hang") => loop {
            thread::park();
        },
        Ok("panic the kernel") => panic_the_kernel(),
        Ok("write") => write(),
        Ok("make links") => make_links(),
        _ => {}
    }
}

/// Runs the inner test with a task; `None` when there is nothing to run it in.
fn told(task: &str, deadline: Duration) -> Result<Option<Ran>> {
    let Some(uml) = Uml::find()? else { return Ok(None) };
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "inside"]).env(TASK, task);
    uml.run(&program, deadline).map(Some)
}

#[test]
fn a_failure_inside_has_its_name_and_words() -> Outcome {
    let Some(ran) = told("fail", DEADLINE)? else { return Ok(()) };
    assert_eq!(ran.end, End::Exited(101), "{}", ran.output);
    assert!(ran.output.contains("test inside ... FAILED"), "{}", ran.output);
    assert!(ran.output.contains("as told"), "{}", ran.output);
    Ok(())
}

#[test]
fn an_executable_that_dies_leaves_the_name_of_its_test() -> Outcome {
    let Some(ran) = told("abort", DEADLINE)? else { return Ok(()) };
    assert_eq!(ran.end, End::Exited(128 + libc::SIGABRT), "{}", ran.output);
    assert!(ran.output.trim_end().ends_with("test inside ..."), "{}", ran.output);
    Ok(())
}

#[test]
fn a_test_that_hangs_is_told_as_that() -> Outcome {
    let deadline = Duration::from_secs(30);
    let Some(ran) = told("hang", deadline)? else { return Ok(()) };
    assert_eq!(ran.end, End::Hung(deadline), "{}", ran.output);
    assert!(ran.output.trim_end().ends_with("test inside ..."), "{}", ran.output);
    Ok(())
}

#[test]
fn a_kernel_that_panics_is_told_as_that() -> Outcome {
    let Some(ran) = told("panic the kernel", DEADLINE)? else { return Ok(()) };
    assert!(matches!(&ran.end, End::Panicked(reason) if reason.contains("sysrq")), "{ran:?}");
    Ok(())
}

fn panic_the_kernel() {
    assert!(fs::read_to_string("/proc/cpuinfo").unwrap().contains("User Mode Linux"));
    fs::write("/proc/sysrq-trigger", "c").unwrap();
}

#[test]
fn the_machine_s_files_cannot_be_changed_and_temporary_ones_can() -> Outcome {
    let Some(ran) = told("write", DEADLINE)? else { return Ok(()) };
    assert_eq!(ran.end, End::Exited(0), "{}", ran.output);
    assert!(!here().exists());
    Ok(())
}

/// A file that could be written here, if any could.
fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/written-inside"))
}

fn write() {
    let refused = fs::write(here(), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{refused}");
    fs::write(env::temp_dir().join("file"), "").unwrap();
}

#[test]
fn the_kernel_has_the_links_that_others_lack() -> Outcome {
    let Some(ran) = told("make links", DEADLINE)? else { return Ok(()) };
    assert_eq!(ran.end, End::Exited(0), "{}", ran.output);
    assert_eq!(ran.skipped, "");
    Ok(())
}

fn make_links() {
    const VLAN_ID: u16 = 1;
    const VRF_TABLE: u16 = 1;
    const VLAN_FILTERING: u16 = 7;
    let mut rtnl = Rtnl::open().unwrap();
    let mut make = |kind: &str, on: u32, data: &dyn Fn(Message) -> Message| {
        rtnl.request(&new_link(kind, on, data)).unwrap();
        rtnl.link_by_name(kind).unwrap().unwrap().index
    };
    let dummy = make("dummy", 0, &|data| data);
    make("bridge", 0, &|data| data.put(VLAN_FILTERING, &[1]));
    make("vlan", dummy, &|data| data.put(VLAN_ID, &7_u16.to_ne_bytes()));
    make("vrf", 0, &|data| data.put_u32(VRF_TABLE, 100));
    make("ipvlan", dummy, &|data| data);
}

/// Asks for a link of this kind, and of this name, on top of another.
fn new_link(kind: &str, on: u32, data: &dyn Fn(Message) -> Message) -> Message {
    const IFLA_INFO_DATA: u16 = 2;
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let link = Message::new(format!("make a {kind}"), libc::RTM_NEWLINK, flags, &[0; 16])
        .put_text(libc::IFLA_IFNAME, kind);
    let link = if on == 0 { link } else { link.put_u32(libc::IFLA_LINK, on) };
    link.nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, data)
    })
}
