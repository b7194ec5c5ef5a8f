//! 6: what a Pod is told of itself is so, and it may ask the API server as itself.

use cbr0_tests::{LabError, Result};

use crate::lab::Lab;
use crate::scenarios::dns;

/// As programs in Pods find the API server, and who they are.
const ASK: &str = r#"
own=/var/run/secrets/kubernetes.io/serviceaccount
exec /programs/kubectl --server=https://kubernetes.default --certificate-authority=$own/ca.crt \
    --token="$(/bin/busybox cat $own/token)" --namespace="$(/bin/busybox cat $own/namespace)" "$@"
"#;

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("CoreDNS, and a Pod with the downward API", |lab| {
        dns::install(lab)?;
        lab.apply(include_str!("../manifests/told.yaml"))?;
        lab.wait_for_pods("app=told")
    })?;
    lab.step("podIP, podIPs, hostIP, nodeName in env are what kernel and API say", environment)?;
    lab.step("name and namespace in a volume (which takes no addresses) are so", volume)?;
    lab.step("the Pod asks https://kubernetes.default with its token, CA, namespace", ask)?;
    lab.step("and may ask no more than its ServiceAccount", refused)
}

fn environment(lab: &mut Lab) -> Result<()> {
    let told = |name: &str| {
        let value = lab.exec("told", &["/bin/busybox", "sh", "-c", &format!("echo ${name}")]);
        value.map(|value| value.trim().to_owned())
    };
    let shown = lab.exec("told", &["/bin/busybox", "ip", "-4", "-o", "addr", "show", "eth0"])?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "inet").skip(1);
    let kernel = words.next().and_then(|address| address.split('/').next()).unwrap_or_default();
    let node = lab.kubectl(&["get", "pod", "told", "--output=jsonpath={.spec.nodeName}"])?;
    let host = lab.node(&node)?.address.to_string();
    let wanted = [kernel, kernel, &node, &host].map(str::to_owned);
    let found = [told("POD_IP")?, told("POD_IPS")?, told("NODE_NAME")?, told("HOST_IP")?];
    if found == wanted && lab.address("told")? == kernel {
        return Ok(());
    }
    Err(LabError::Wrong(format!("the Pod is told {found:?}, and it is {wanted:?}")))
}

fn volume(lab: &mut Lab) -> Result<()> {
    let read = |file| lab.exec("told", &["/bin/busybox", "cat", file]);
    let found = [read("/told/name")?, read("/told/namespace")?];
    let wanted = ["told".to_owned(), lab.namespace()];
    let words = || format!("the files say {found:?}");
    if found == wanted { Ok(()) } else { Err(LabError::Wrong(words())) }
}

fn ask(lab: &mut Lab) -> Result<()> {
    let shown = asked(lab, &["get", "pod", "told", "--output=jsonpath={.status.podIP}"])?;
    let known = lab.address("told")?;
    let words = || format!("the API server tells the Pod {shown:?}, and us {known:?}");
    if shown == known { Ok(()) } else { Err(LabError::Wrong(words())) }
}

fn asked(lab: &Lab, words: &[&str]) -> Result<String> {
    lab.exec("told", &[&["/bin/busybox", "sh", "-c", ASK, "sh"], words].concat())
}

fn refused(lab: &mut Lab) -> Result<()> {
    let own = format!("system:serviceaccount:{}:default", lab.namespace());
    match asked(lab, &["get", "secrets"]) {
        Ok(_) => Err(LabError::Wrong("the Pod may read secrets".to_owned())),
        Err(error) if error.to_string().contains(&own) => Ok(()),
        Err(error) => Err(error),
    }
}
