//! TLS: who shows the right certificates comes in, and who does not is told what to do.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cbr0_tests::daemon::text;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result, process};

use crate::fixture::{Lab, ROUTER, tells};

/// Makes, in a folder, the CAs `ca` and `other`, and a certificate of `ca` for etcd and its clients.
const CERTIFICATES: &str = r#"
    set -e
    new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for name in ca other; do
        "$1" req -x509 $new -days 2 -subj /CN=$name -keyout $name.key -out $name.pem
    done
    "$1" req $new -subj /CN=etcd -keyout etcd.key -out etcd.csr
    echo "subjectAltName=IP:$2" >names
    "$1" x509 -req -in etcd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
        -out etcd.pem
"#;

fn make_certificates(openssl: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", CERTIFICATES, "sh"]).arg(openssl).arg(ROUTER).current_dir(folder);
    let done = process::run(command, b"", Duration::from_secs(60))?;
    assert!(done.status.success(), "{}", done.stderr);
    Ok(())
}

#[test]
fn the_right_certificates_open_and_wrong_ones_are_told_with_a_remedy() -> Outcome {
    let Some(openssl) = require::part(Part::Openssl)? else { return Ok(()) };
    let folder = tempfile::tempdir().unwrap();
    make_certificates(&openssl, folder.path())?;
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ca, other, certificate, key) =
        (file("ca.pem"), file("other.pem"), file("etcd.pem"), file("etcd.key"));
    let options = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca,
        "--cert-file",
        &certificate,
        "--key-file",
        &key,
    ];
    let options = options.map(str::to_owned).to_vec();
    let Some(lab) = Lab::at(1, format!("https://{ROUTER}:2379"), options)? else { return Ok(()) };
    for trusted in [other, ca.clone()] {
        // Of the second, etcd misses the client's certificate.
        let daemon = lab.start_with(1, &["--etcd-cafile", &trusted])?;
        lab.wait(1, "remedy", |status| {
            let error = text(&status["sourceError"]);
            error.contains("is not trusted") && error.contains("--etcd-cafile must name")
        })?;
        daemon.kill();
        std::fs::remove_file(lab.node(1).folder().join("route-syncer.json")).unwrap();
    }
    let identity = ["--etcd-cafile", &ca, "--etcd-certfile", &certificate, "--etcd-keyfile", &key];
    let _daemon = lab.start_with(1, &identity)?;
    lab.wait(1, "an answer", |status| tells(status, "there is no key"))?;
    Ok(())
}
