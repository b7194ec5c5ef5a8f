//! The call of whatever IPAM a configuration names, for the plugins that need addresses.
//!
//! An IPAM of ours is called as a library, which saves a process: but only if the file that would
//! be executed is ours, of this very build. A wrapper script or the Go binary in its place is
//! there for a reason, and is executed.

use std::path::{Path, PathBuf};

use cni_conf::conf::NetConf;
use cni_conf::delegate;
use cni_conf::env::{Env, Verb};
use cni_conf::error::{CniError, Code};
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;

use crate::host_local::HostLocal;
use crate::static_ips::Static;

/// The IPAM of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipam {
    /// Our `host-local`, in this process.
    HostLocal,
    /// Our `static`, in this process.
    Static,
    /// Any other, by its file.
    Program(PathBuf),
}

impl Ipam {
    /// The IPAM that the configuration names, as CNI_PATH has it; `None` for a network without
    /// addresses.
    ///
    /// # Errors
    /// Code 7 if `ipam` has no type, or CNI_PATH has no file of that name.
    pub fn resolve(conf: &NetConf, env: &Env) -> Result<Option<Self>, CniError> {
        let Some(ipam_type) = conf.ipam_type()? else {
            return Ok(None);
        };
        let program = delegate::find(&ipam_type, &env.plugin_path())?;
        // A file that can be executed and not read is not ours.
        let is_ours = |_: &Self| kernel::elf_note::is_ours(&program).unwrap_or(false);
        let built_in = Self::built_in(&ipam_type).filter(is_ours);
        Ok(Some(built_in.unwrap_or(Self::Program(program))))
    }

    /// The one of ours that has this name.
    fn built_in(ipam_type: &str) -> Option<Self> {
        match ipam_type {
            HostLocal::NAME => Some(Self::HostLocal),
            Static::NAME => Some(Self::Static),
            _ => None,
        }
    }

    /// Gets addresses. On an error nothing stays allocated, as far as that is in our power: a
    /// program that failed, or answered what nobody can read, is sent a DEL (spec, section 4).
    ///
    /// # Errors
    /// The IPAM's own; code 6 if its answer is no result.
    pub fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        match self {
            Self::HostLocal => HostLocal.add(call, netns),
            Self::Static => Static.add(call, netns),
            Self::Program(program) => add_by_program(program, call).inspect_err(|_| {
                // The first error is the one to report, and the runtime sends another DEL.
                self.del(call, Some(netns)).ok();
            }),
        }
    }

    /// Gives them back.
    ///
    /// # Errors
    /// The IPAM's own.
    pub fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        match self {
            Self::HostLocal => HostLocal.del(call, netns),
            Self::Static => Static.del(call, netns),
            Self::Program(program) => run(program, Verb::Del, &call.env, &call.conf),
        }
    }

    /// Asks whether they are still allocated.
    ///
    /// # Errors
    /// The IPAM's own.
    pub fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        match self {
            Self::HostLocal => HostLocal.check(call, netns),
            Self::Static => Static.check(call, netns),
            Self::Program(program) => run(program, Verb::Check, &call.env, &call.conf),
        }
    }

    /// Gives back what belongs to no valid attachment.
    ///
    /// # Errors
    /// The IPAM's own.
    pub fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        match self {
            Self::HostLocal => HostLocal.gc(upkeep),
            Self::Static => Static.gc(upkeep),
            Self::Program(program) => run(program, Verb::Gc, &upkeep.env, &upkeep.conf),
        }
    }

    /// Asks whether the next [`Ipam::add`] would work.
    ///
    /// # Errors
    /// The IPAM's own; code 50 if it would not.
    pub fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        match self {
            Self::HostLocal => HostLocal.status(upkeep),
            Self::Static => Static.status(upkeep),
            Self::Program(program) => run(program, Verb::Status, &upkeep.env, &upkeep.conf),
        }
    }
}

fn run(program: &Path, verb: Verb, env: &Env, conf: &NetConf) -> Result<(), CniError> {
    delegate::exec(program, verb, env, conf.raw()).map(drop)
}

fn add_by_program(program: &Path, call: &Call) -> Result<CniResult, CniError> {
    let stdout = delegate::exec(program, Verb::Add, &call.env, call.conf.raw())?;
    let unreadable = |error: String| {
        CniError::new(Code::Decode, format!("the answer of {} to ADD: {error}", program.display()))
    };
    let text = str::from_utf8(&stdout).map_err(|error| unreadable(error.to_string()))?;
    CniResult::parse(text, call.conf.version).map_err(|error| CniError {
        code: error.code,
        msg: unreadable(error.msg).msg,
        details: error.details,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cni_conf::attachment::Attachment;
    use tempfile::TempDir;

    use super::*;

    /// A folder of plugins with one script in it, which notes the verbs it is called with.
    fn folder(name: &str, script: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let log = folder.path().join("log").display().to_string();
        let script = format!("#!/bin/sh\necho $CNI_COMMAND $CNI_CONTAINERID >>{log}\n{script}\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }

    fn log(folder: &TempDir) -> String {
        std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
    }

    fn env(folder: &TempDir) -> Env {
        Env {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: "/no/netns".into(),
            path: format!("/no/folder:{}", folder.path().display()),
            ..Env::default()
        }
    }

    fn call(folder: &TempDir, version: &str, ipam: &str) -> Call {
        let conf = format!(
            r#"{{"cniVersion": "{version}", "name": "n", "type": "bridge", "ipam": {ipam}}}"#
        );
        Call {
            env: env(folder),
            conf: NetConf::parse(conf.as_bytes()).unwrap(),
            attachment: Attachment::new("n", "c1", "eth0").unwrap(),
        }
    }

    fn resolve(call: &Call) -> Result<Option<Ipam>, CniError> {
        Ipam::resolve(&call.conf, &call.env)
    }

    #[test]
    fn no_ipam_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(resolve(&call(&folder, "1.0.0", "{}")), Ok(None));
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = resolve(&call(&folder, "1.0.0", r#"{"type": "host-local"}"#)).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.msg.contains(r#"failed to find plugin "host-local""#), "{error}");
    }

    #[test]
    fn a_foreign_file_of_our_name_is_executed() {
        for name in ["host-local", "static"] {
            let folder = folder(name, "");
            let call = call(&folder, "1.0.0", &format!(r#"{{"type": "{name}"}}"#));
            let program = folder.path().join(name);
            assert_eq!(resolve(&call), Ok(Some(Ipam::Program(program))));
        }
    }

    #[test]
    fn a_file_of_ours_is_called_in_process() {
        let folder = tempfile::tempdir().unwrap();
        // This test binary carries the note too.
        let ours = std::env::current_exe().unwrap();
        for name in ["host-local", "static", "other"] {
            std::os::unix::fs::symlink(&ours, folder.path().join(name)).unwrap();
        }
        let named = |ipam: &str| resolve(&call(&folder, "1.0.0", ipam)).unwrap().unwrap();
        assert_eq!(named(r#"{"type": "host-local"}"#), Ipam::HostLocal);
        assert_eq!(named(r#"{"type": "static"}"#), Ipam::Static);
        let other = folder.path().join("other");
        assert_eq!(named(r#"{"type": "other"}"#), Ipam::Program(other), "only what is built in");
    }

    #[test]
    fn an_answer_without_version_is_read_as_the_configurations() {
        let old = r#"echo '{"ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1"}}'"#;
        let new = r#"echo '{"ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}]}'"#;
        for (version, script) in [("0.2.0", old), ("1.0.0", new)] {
            let folder = folder("any", script);
            let call = call(&folder, version, r#"{"type": "any"}"#);
            let result = resolve(&call).unwrap().unwrap().add(&call, Path::new("/x")).unwrap();
            assert_eq!(result.ips[0].address.to_string(), "10.0.0.5/24", "{version}");
            assert_eq!(log(&folder), "ADD c1\n");
        }
    }

    #[test]
    fn a_failed_add_is_followed_by_a_del() {
        let full = r#"[ $CNI_COMMAND = ADD ] || exit 0
            echo '{"code": 11, "msg": "full", "details": "d"}'; exit 1"#;
        let folder_full = folder("any", full);
        let call_full = call(&folder_full, "1.0.0", r#"{"type": "any"}"#);
        let ipam = resolve(&call_full).unwrap().unwrap();
        let error = ipam.add(&call_full, Path::new("/x")).unwrap_err();
        assert_eq!(error, CniError::new(Code::TryAgainLater, "full").with_details("d"));
        assert_eq!(log(&folder_full), "ADD c1\nDEL c1\n");

        let folder = folder("any", "echo nonsense");
        let call = call(&folder, "1.0.0", r#"{"type": "any"}"#);
        let ipam = resolve(&call).unwrap().unwrap();
        let error = ipam.add(&call, Path::new("/x")).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.msg.contains("/any to ADD: "), "{error}");
        assert_eq!(log(&folder), "ADD c1\nDEL c1\n");
    }

    #[test]
    fn the_other_verbs_are_passed_on_with_the_errors_they_meet() {
        let folder = folder(
            "any",
            r#"[ $CNI_COMMAND = DEL ] || { echo '{"code": 50, "msg": "m"}'; exit 1; }"#,
        );
        let call = call(&folder, "1.1.0", r#"{"type": "any"}"#);
        let upkeep = Upkeep { env: call.env.clone(), conf: call.conf.clone() };
        let ipam = resolve(&call).unwrap().unwrap();
        let failed = Err(CniError::new(Code::NotAvailable, "m"));
        assert_eq!(ipam.del(&call, None), Ok(()));
        assert_eq!(ipam.check(&call, Path::new("/x")), failed);
        assert_eq!(ipam.gc(&upkeep), failed);
        assert_eq!(ipam.status(&upkeep), failed);
        assert_eq!(log(&folder), "DEL c1\nCHECK c1\nGC c1\nSTATUS c1\n");
    }
}
