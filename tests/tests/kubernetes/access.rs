//! Who is let in: least privilege, a ServiceAccount in a Pod, tokens that change.

use std::fs;
use std::process::Command;

use cbr0_tests::kube::PORT;
use cbr0_tests::{Outcome, bins};
use serde_json::json;

use crate::fixture::{Lab, SERVER, STRANGER, TOKENS};

const WELL: [&str; 2] = ["node1 own", "node2 ok"];

/// Where a Pod finds its ServiceAccount, in a mount namespace of its own. `$1` is the folder.
const IN_A_POD: &str = r#"
    mount -t tmpfs none /run
    mkdir -p /run/secrets/kubernetes.io
    ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
    shift
    exec "$@"
"#;

#[test]
fn who_may_not_list_is_told_what_to_do_and_keeps_the_routes() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let routes = lab.routes()?;
    drop(daemon);
    let _daemon = lab.start_as(1, STRANGER, &[])?;
    lab.wait_for_trouble("ClusterRole with the verbs list and watch")?;
    assert_eq!(lab.routes()?, routes);
    // Let in, it goes on by itself.
    lab.allow(&[json!({"kind": "User", "name": STRANGER})])?;
    lab.wait_for_rows(&WELL)?;
    Ok(())
}

#[test]
fn a_pods_service_account_with_list_and_watch_alone_is_enough() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let name = "route-syncer";
    lab.server.ask("POST", accounts, &json!({"metadata": {"name": name}}))?;
    lab.allow(&[json!({"kind": "ServiceAccount", "name": name, "namespace": "default"})])?;
    let request = json!({"spec": {"expirationSeconds": 3600}});
    let token = lab.server.ask("POST", &format!("{accounts}/{name}/token"), &request)?;
    let folder = lab.node(1).folder().join("account");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("token"), token["status"]["token"].as_str().unwrap()).unwrap();
    fs::write(folder.join("namespace"), "default").unwrap();
    fs::copy(lab.server.ca(), folder.join("ca.crt")).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", IN_A_POD, "sh"]);
    command.arg(&folder).arg(bins::route_syncer()?).args(lab.arguments(1));
    command.env("KUBERNETES_SERVICE_HOST", SERVER);
    command.env("KUBERNETES_SERVICE_PORT", PORT.to_string());
    let _daemon = lab.spawn(1, command)?;
    lab.wait_for_rows(&WELL)?;
    Ok(())
}

#[test]
fn p23_a_token_that_was_replaced_is_read_again() -> Outcome {
    let Some(mut lab) = Lab::new(2)? else { return Ok(()) };
    let _daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let mut events = lab.listen()?;
    // The one that it has read counts no more.
    lab.server.stop();
    lab.server.set_tokens(&[TOKENS[1]])?;
    lab.server.run()?;
    lab.wait_for_trouble("does not let us in")?;
    fs::write(lab.token_file(1), TOKENS[1]).unwrap();
    lab.wait_for_rows(&WELL)?;
    assert_eq!(events.counts()?, (0, 0));
    Ok(())
}
