use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A plugin written in shell, in a folder of its own.
fn script(folder: &Path, text: &str) -> PathBuf {
    let program = folder.join("delegate");
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn run(text: &str, env: &Env, stdin: &[u8]) -> Result<Vec<u8>, CniError> {
    let folder = tempfile::tempdir().unwrap();
    exec(&script(folder.path(), text), Verb::Del, env, stdin)
}

#[test]
fn the_first_regular_file_is_found() {
    let (a, b, c) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(a.path().join("host-local")).unwrap();
    fs::write(b.path().join("host-local"), "").unwrap();
    fs::write(c.path().join("host-local"), "").unwrap();
    let path = [a.path().to_owned(), b.path().to_owned(), c.path().to_owned()];
    assert_eq!(find("host-local", &path), Ok(b.path().join("host-local")));
}

#[test]
fn what_is_not_found_is_named_with_the_path() {
    let error = find("x", &["/a".into(), "/b".into()]).unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig);
    assert_eq!(error.msg, "failed to find plugin \"x\" in path [/a /b]");
    assert!(error.details.contains("CNI_PATH"), "{error}");
}

#[test]
fn a_path_is_no_plugin_name() {
    for name in ["/bin/sh", "../sh", "", ".."] {
        let error = find(name, &["/bin".into()]).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.msg.starts_with("invalid plugin name: "), "{error}");
    }
}

#[test]
fn the_delegate_gets_the_same_bytes_however_many() {
    let stdin: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(run("cat", &Env::default(), &stdin).unwrap() == stdin);
}

#[test]
fn a_delegate_may_write_before_it_reads() {
    let stdin = vec![b' '; 1_000_000];
    let stdout = run("head -c 1000000 /dev/zero; cat >/dev/null", &Env::default(), &stdin).unwrap();
    assert_eq!(stdout.len(), 1_000_000);
}

#[test]
fn a_delegate_need_not_read() {
    let stdin = vec![b' '; 1_000_000];
    assert_eq!(run("echo done", &Env::default(), &stdin), Ok(b"done\n".to_vec()));
}

#[test]
fn the_delegate_s_variables_are_those_of_the_call() {
    let env = Env {
        command: Some("ADD".to_owned()),
        container_id: "c1".to_owned(),
        netns: "/run/netns/x".to_owned(),
        ifname: "eth0".to_owned(),
        args: "A=1".to_owned(),
        path: "/opt/cni/bin".to_owned(),
        netns_override: true,
    };
    let stdout = run("env | grep ^CNI_ | sort", &env, b"").unwrap();
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        "CNI_ARGS=A=1\nCNI_COMMAND=DEL\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n\
         CNI_NETNS=/run/netns/x\nCNI_NETNS_OVERRIDE=1\nCNI_PATH=/opt/cni/bin\n"
    );
    let stdout = run("echo ${CNI_NETNS_OVERRIDE-unset}; echo $PATH", &Env::default(), b"").unwrap();
    let inherited = std::env::var("PATH").unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("unset\n{inherited}\n"));
}

#[test]
fn a_delegate_s_error_keeps_its_code() {
    let text = r#"echo '{"code": 11, "msg": "busy", "details": "later"}'; exit 1"#;
    assert_eq!(
        run(text, &Env::default(), b"").unwrap_err(),
        CniError::new(Code::TryAgainLater, "busy").with_details("later")
    );
}

#[test]
fn a_delegate_that_fails_without_a_readable_error_is_named() {
    for (text, status) in
        [("echo oops; exit 3", "exit status: 3"), ("echo oops; kill -9 $$", "signal: 9")]
    {
        let error = run(text, &Env::default(), b"").unwrap_err();
        assert_eq!(error.code, Code::Delegate);
        for part in ["/delegate", "DEL", status] {
            assert!(error.msg.contains(part), "{part} is not in {error}");
        }
        assert!(error.details.contains("oops"), "{error}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let error = exec(Path::new("/nonexistent/x"), Verb::Add, &Env::default(), b"").unwrap_err();
    assert_eq!(error.code, Code::Delegate);
    assert!(error.msg.contains("/nonexistent/x, ADD: cannot be run"), "{error}");
}

#[test]
fn a_program_that_is_being_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 0");
    let mut writer = Some(File::options().append(true).open(&program).unwrap());
    let mut pauses = 0;
    let child = spawn(&mut Command::new(&program), || {
        pauses += 1;
        writer = None;
    });
    assert!(child.unwrap().wait().unwrap().success());
    assert!(pauses > 0, "the kernel did not say ETXTBSY");
}

#[test]
fn a_program_that_is_written_for_ever_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 0");
    let _writer = File::options().append(true).open(&program).unwrap();
    let mut pauses = 0;
    let error = spawn(&mut Command::new(&program), || pauses += 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExecutableFileBusy);
    assert_eq!(pauses, BUSY_TRIES - 1);
}
