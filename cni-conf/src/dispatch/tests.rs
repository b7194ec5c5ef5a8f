use std::cell::RefCell;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::cidr;
use crate::result::{CniResult, IpConfig};

/// A plugin that notes how it is called and answers as it is told.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<String>>,
    result: CniResult,
    del_fails: bool,
}

impl Recorder {
    fn note(&self, verb: &str, call: &Call, netns: Option<&Path>) {
        let Attachment { network, container_id, ifname, .. } = &call.attachment;
        self.calls.borrow_mut().push(format!("{verb} {network}/{container_id}/{ifname} {netns:?}"));
    }
}

impl Plugin for Recorder {
    const NAME: &'static str = "recorder";

    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        self.note("add", call, Some(netns));
        Ok(self.result.clone())
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        self.note("del", call, netns);
        if self.del_fails { Err(CniError::new(Code::Kernel, "stuck")) } else { Ok(()) }
    }

    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        self.note("check", call, Some(netns));
        Err(CniError::new(Code::CheckFailed, "it is gone"))
    }

    fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        self.calls.borrow_mut().push(format!("gc {}", upkeep.conf.name));
        Ok(())
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        self.calls.borrow_mut().push(format!("status {}", upkeep.conf.name));
        Err(CniError::new(Code::NotAvailable, "not yet"))
    }
}

fn env(command: &str) -> Env {
    Env {
        command: Some(command.to_owned()),
        container_id: "c1".to_owned(),
        netns: "/run/netns/x".to_owned(),
        ifname: "eth0".to_owned(),
        path: "/opt/cni/bin".to_owned(),
        ..Env::default()
    }
}

fn conf(version: &str) -> String {
    json!({"cniVersion": version, "name": "net", "type": "recorder"}).to_string()
}

/// Runs a call that must fail before the plugin hears of it.
fn refused(env: Env, stdin: &str) -> Value {
    let plugin = Recorder::default();
    let outcome = run(&plugin, env, stdin.as_bytes());
    assert!(!outcome.success);
    assert_eq!(*plugin.calls.borrow(), Vec::<String>::new());
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn with_address() -> CniResult {
    let address = cidr("10.0.1.5/24").unwrap();
    CniResult {
        ips: vec![IpConfig { interface: None, address, gateway: None }],
        ..CniResult::default()
    }
}

#[test]
fn without_a_command_it_tells_what_it_is() {
    for command in [None, Some(String::new())] {
        let outcome = run(&Recorder::default(), Env { command, ..env("") }, &b""[..]);
        assert!(outcome.success);
        assert_eq!(outcome.stdout, "");
        assert_eq!(
            outcome.stderr,
            format!(
                "CNI plugin recorder version {}\nCNI protocol versions supported: \
                 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[test]
fn version_needs_nothing_and_answers_one_line() {
    let env = Env { command: Some("VERSION".to_owned()), ..Env::default() };
    let outcome = run(&Recorder::default(), env, FailingStdin);
    assert!(outcome.success);
    assert_eq!(
        outcome.stdout,
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\
         \"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
    );
}

/// Stdin that cannot be read.
struct FailingStdin;

impl Read for FailingStdin {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(5))
    }
}

#[test]
fn an_unknown_command_is_refused() {
    let error = refused(env("FOO"), &conf("1.0.0"));
    assert_eq!(error["code"], 4);
    assert_eq!(error["msg"], "unknown CNI_COMMAND: FOO");
    assert_eq!(error["cniVersion"], "1.1.0");
}

#[test]
fn missing_variables_are_named_all_at_once() {
    let bare = |command: &str| Env { command: Some(command.to_owned()), ..Env::default() };
    for (verb, names) in [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ("GC", "CNI_PATH"),
        ("STATUS", "CNI_PATH"),
    ] {
        let error = refused(bare(verb), &conf("1.1.0"));
        assert_eq!(error["code"], 4);
        assert_eq!(error["msg"], format!("required env variables [{names}] missing"));
    }
    let error = refused(Env { netns: String::new(), ..env("ADD") }, &conf("1.1.0"));
    assert_eq!(error["msg"], "required env variables [CNI_NETNS] missing");
}

#[test]
fn a_bad_name_is_reported_before_missing_variables() {
    let bad_id = Env { container_id: "a/b".to_owned(), path: String::new(), ..env("ADD") };
    let error = refused(bad_id, "");
    assert_eq!(error["code"], 4);
    assert!(error["msg"].as_str().unwrap().contains("containerID \"a/b\""), "{error}");
    let error = refused(Env { ifname: "a b".to_owned(), ..env("DEL") }, "");
    assert!(error["msg"].as_str().unwrap().contains("CNI_IFNAME"), "{error}");
}

#[test]
fn names_a_verb_does_not_need_are_not_looked_at() {
    let plugin = Recorder::default();
    let env = Env { container_id: "a/b".to_owned(), ifname: "..".to_owned(), ..env("GC") };
    assert!(run(&plugin, env, conf("1.1.0").as_bytes()).success);
    assert_eq!(*plugin.calls.borrow(), ["gc net"]);
}

#[test]
fn unreadable_stdin_is_code_5() {
    let outcome = run(&Recorder::default(), env("ADD"), FailingStdin);
    let error: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(error["code"], 5);
    assert!(error["msg"].as_str().unwrap().contains("stdin"), "{error}");
}

#[test]
fn stdin_without_end_is_refused() {
    let outcome = run(&Recorder::default(), env("ADD"), io::repeat(b' '));
    let error: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(error["code"], 5);
    assert!(error["msg"].as_str().unwrap().contains("more than 16 MiB"), "{error}");
}

#[test]
fn a_bad_configuration_is_refused() {
    assert_eq!(refused(env("ADD"), "{")["code"], 6);
    assert_eq!(refused(env("ADD"), r#"{"cniVersion": "1.0.0"}"#)["code"], 7);
    let error = refused(env("DEL"), &conf("9.0.0"));
    assert_eq!(error["code"], 1);
    assert_eq!(error["msg"], "incompatible CNI versions");
}

#[test]
fn an_error_is_in_the_configuration_s_version() {
    let error = refused(env("ADD"), r#"{"cniVersion": "0.4.0"}"#);
    assert_eq!(error["cniVersion"], "0.4.0");
    assert_eq!(refused(env("ADD"), &conf("9.0.0"))["cniVersion"], "1.1.0");
    assert_eq!(refused(env("ADD"), "{")["cniVersion"], "1.1.0");
}

#[test]
fn verbs_younger_than_the_configuration_are_refused() {
    for (verb, too_old) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let error = refused(env(verb), &conf(too_old));
        assert_eq!(error["code"], 1);
        assert_eq!(error["msg"], format!("config version does not allow {verb}"));
        assert_eq!(error["cniVersion"], too_old);
    }
    let plugin = Recorder::default();
    run(&plugin, env("CHECK"), conf("0.4.0").as_bytes());
    assert_eq!(plugin.calls.borrow().len(), 1);
}

#[test]
fn add_prints_the_plugin_s_result() {
    let plugin = Recorder { result: with_address(), ..Recorder::default() };
    let outcome = run(&plugin, env("ADD"), conf("1.0.0").as_bytes());
    assert!(outcome.success);
    assert_eq!(outcome.stdout, with_address().render(SpecVersion::V1_0_0).unwrap());
    assert_eq!(*plugin.calls.borrow(), ["add net/c1/eth0 Some(\"/run/netns/x\")"]);
}

#[test]
fn an_add_whose_result_cannot_be_written_is_undone() {
    for version in ["0.1.0", "0.2.0"] {
        let plugin = Recorder::default();
        let outcome = run(&plugin, env("ADD"), conf(version).as_bytes());
        assert!(!outcome.success);
        let error: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.starts_with("cannot convert: no valid IP addresses"), "{msg}");
        assert_eq!(error["cniVersion"], version);
        assert_eq!(
            *plugin.calls.borrow(),
            ["add net/c1/eth0 Some(\"/run/netns/x\")", "del net/c1/eth0 Some(\"/run/netns/x\")"]
        );
    }
    let plugin = Recorder { del_fails: true, ..Recorder::default() };
    let outcome = run(&plugin, env("ADD"), conf("0.2.0").as_bytes());
    assert!(outcome.stdout.contains("removing the attachment failed too: stuck"), "{outcome:?}");
}

#[test]
fn del_prints_nothing_and_needs_no_netns() {
    let plugin = Recorder::default();
    let env = Env { netns: String::new(), ..env("DEL") };
    let outcome = run(&plugin, env, conf("0.3.1").as_bytes());
    assert_eq!(outcome, Outcome { stdout: String::new(), stderr: String::new(), success: true });
    assert_eq!(*plugin.calls.borrow(), ["del net/c1/eth0 None"]);
}

#[test]
fn what_the_plugin_reports_is_passed_on() {
    let plugin = Recorder::default();
    for (verb, code, msg) in [("CHECK", 102, "it is gone"), ("STATUS", 50, "not yet")] {
        let outcome = run(&plugin, env(verb), conf("1.1.0").as_bytes());
        assert!(!outcome.success);
        let error: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!((&error["code"], &error["msg"]), (&json!(code), &json!(msg)));
    }
}

proptest! {
    #[test]
    fn every_answer_is_one_document(
        command in prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "X"]),
        strings in any::<[String; 5]>(),
        stdin in any::<Vec<u8>>(),
        version in "[0-9.]{0,6}",
    ) {
        let [container_id, netns, ifname, args, path] = strings;
        let arbitrary = Env {
            command: Some(command.to_owned()),
            container_id, netns, ifname, args, path,
            netns_override: false,
        };
        for (env, stdin) in [
            (arbitrary, conf(&version).into_bytes()),
            (env(command), conf(&version).into_bytes()),
            (env(command), stdin),
        ] {
            let outcome = run(&Recorder { result: with_address(), ..Recorder::default() }, env, &stdin[..]);
            if !(outcome.success && outcome.stdout.is_empty()) {
                let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
                prop_assert!(answer["cniVersion"].is_string());
                prop_assert_eq!(answer.get("code").is_some(), !outcome.success);
            }
        }
    }
}
