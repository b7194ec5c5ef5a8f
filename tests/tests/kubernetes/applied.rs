//! deploy/cbr0.yaml, applied, and its daemon started as in its Pod: with the token, the arguments, the
//! folders and the capabilities that it has there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cbr0_tests::daemon::{Daemon, text};
use cbr0_tests::kube::PORT;
use cbr0_tests::{LabError, Result, bins};
use serde_json::{Value, json};

use crate::fixture::{Lab, SERVER};

pub(crate) const MANIFEST: &str = include_str!("../../../deploy/cbr0.yaml");
/// The ranges that it has for Pods and Services, until somebody sets others.
const RANGES: [&str; 2] = ["--cluster-cidr=10.244.0.0/16", "--service-cidr=10.96.0.0/16"];
/// Where objects of a kind are made.
const PATHS: [(&str, &str); 5] = [
    ("ServiceAccount", "/api/v1/namespaces/kube-system/serviceaccounts"),
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("DaemonSet", "/apis/apps/v1/namespaces/kube-system/daemonsets"),
    ("Pod", "/api/v1/namespaces/kube-system/pods"),
];

/// What a runtime makes of a machine for a container: `$1` is the folder of the ServiceAccount, `$2` has
/// the mounts (FOLDER:PATH), `$3` the capabilities that are kept. Settings of the kernel are read-only.
const IN_A_POD: &str = r#"
    mount -t tmpfs none /run
    for place in etc var; do
        mkdir -p /run/layers/$place/upper /run/layers/$place/work
        mount -t overlay -o "lowerdir=/$place,upperdir=/run/layers/$place/upper,workdir=/run/layers/$place/work" \
            none /$place
    done
    mkdir -p /run/secrets/kubernetes.io
    ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
    for volume in $2; do
        mkdir -p "${volume#*:}" "${volume%%:*}"
        mount --bind "${volume%%:*}" "${volume#*:}"
    done
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    kept=$3
    shift 3
    exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$kept" -- "$@"
"#;

/// The manifest's objects, as the API server has them.
pub(crate) struct Applied<'a> {
    lab: &'a Lab,
    pub(crate) role: Value,
    pub(crate) daemon_set: Value,
}

impl<'a> Applied<'a> {
    /// With the laboratory's ranges, of both families.
    pub(crate) fn new(lab: &'a Lab) -> Result<Self> {
        Self::with_ranges(lab, "10.0.0.0/14,fd00::/48", "10.96.0.0/16,fd00:10:96::/112")
    }

    /// With these ranges for Pods and Services.
    pub(crate) fn with_ranges(lab: &'a Lab, pods: &str, services: &str) -> Result<Self> {
        let [old_pods, old_services] = RANGES;
        assert!(MANIFEST.contains(old_pods) && MANIFEST.contains(old_services));
        let manifest = MANIFEST.replace(old_pods, &format!("--cluster-cidr={pods}"));
        let manifest = manifest.replace(old_services, &format!("--service-cidr={services}"));
        let mut objects = Vec::new();
        for document in manifest.split("\n---\n") {
            objects.push(lab.server.create(path_of(document)?, document)?);
        }
        let made = |kind: &str| objects.iter().find(|object| object["kind"] == kind).cloned();
        let (role, daemon_set) = (made("ClusterRole"), made("DaemonSet"));
        let missing = || LabError::Wrong("the manifest lacks a ClusterRole or a DaemonSet".into());
        let role = role.ok_or_else(missing)?;
        Ok(Applied { lab, role, daemon_set: daemon_set.ok_or_else(missing)? })
    }

    /// The container with this name, of the Pods.
    pub(crate) fn container(&self, name: &str) -> &Value {
        let spec = &self.daemon_set["spec"]["template"]["spec"];
        let all = [&spec["initContainers"], &spec["containers"]].into_iter();
        let mut all = all.flat_map(|list| list.as_array().into_iter().flatten());
        all.find(|container| container["name"] == name).unwrap_or(&Value::Null)
    }

    /// Sets what the ClusterRole lets do.
    pub(crate) fn set_verbs(&self, verbs: &[&str]) -> Result<()> {
        let path = format!("{}/{}", PATHS[1].1, text(&self.role["metadata"]["name"]));
        let mut rules = self.role["rules"].clone();
        rules[0]["verbs"] = json!(verbs);
        self.lab.server.ask("PATCH", &path, &json!({"rules": rules})).map(drop)
    }

    /// Starts the daemon of a node as in its Pod.
    pub(crate) fn start(&self, number: usize) -> Result<Daemon> {
        self.start_with(number, &self.capabilities())
    }

    pub(crate) fn start_with(&self, number: usize, capabilities: &[String]) -> Result<Daemon> {
        let container = self.container("route-syncer");
        let node = self.lab.node(number);
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let mounts = mounts.map(|mount| text(&mount["mountPath"]));
        let mounts = mounts.map(|path| format!("{}:{path}", self.folder(number, &path).display()));
        let kept = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase()));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", IN_A_POD, "sh"]);
        command.arg(self.account(number)?).arg(mounts.collect::<Vec<_>>().join(" "));
        command.arg(format!("-all{}", kept.collect::<String>())).arg(bins::route_syncer()?);
        let arguments = texts(&container["args"]).into_iter();
        command.args(arguments.map(|word| word.replace("$(NODE_NAME)", &node.name)));
        command.env("KUBERNETES_SERVICE_HOST", SERVER);
        command.env("KUBERNETES_SERVICE_PORT", PORT.to_string());
        self.lab.spawn(number, command)
    }

    /// The folder that a daemon has as this one. That of its status is where all tests look for it.
    pub(crate) fn folder(&self, number: usize, path: &str) -> PathBuf {
        let folder = self.lab.node(number).folder();
        if path == "/run/cbr0" { folder.to_owned() } else { folder.join(&path[1..]) }
    }

    /// Those that the manifest adds to none.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let capabilities = &self.container("route-syncer")["securityContext"]["capabilities"];
        assert_eq!(capabilities["drop"], json!(["ALL"]));
        texts(&capabilities["add"])
    }

    /// A folder with what a Pod has of its ServiceAccount.
    fn account(&self, number: usize) -> Result<PathBuf> {
        let name = text(&self.daemon_set["spec"]["template"]["spec"]["serviceAccountName"]);
        let request = json!({"spec": {"expirationSeconds": 3600}});
        let path = format!("{}/{name}/token", PATHS[0].1);
        let token = self.lab.server.ask("POST", &path, &request)?;
        let folder = self.lab.node(number).folder().join("account");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), text(&token["status"]["token"])).unwrap();
        fs::write(folder.join("namespace"), "kube-system").unwrap();
        fs::copy(self.lab.server.ca(), folder.join("ca.crt")).unwrap();
        Ok(folder)
    }
}

/// Where the object of a document of YAML is made.
pub(crate) fn path_of(document: &str) -> Result<&'static str> {
    let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
    let known = PATHS.iter().find(|(known, _)| Some(*known) == kind);
    let unknown = || LabError::Wrong(format!("the test knows no kind {kind:?}"));
    known.map(|(_, path)| *path).ok_or_else(unknown)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(text).collect()
}
