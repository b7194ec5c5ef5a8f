//! The machine of the control plane: etcd, the API server, the controller manager, the scheduler.

use std::fs;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbr0_tests::error::Context as _;
use cbr0_tests::machine::Machine;
use cbr0_tests::{Result, process};

use crate::daemon::Daemon;
use crate::programs::Programs;

/// The addresses of the cluster's Pods, as deploy/cbr0.yaml has them.
pub(crate) const POD_RANGE: &str = "10.244.0.0/16";
/// The addresses of its Services.
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// Where all of it is written.
const FOLDER: &str = "/run/kubernetes";
/// Who may do everything.
const ADMIN: &str = "admin";

/// The control plane, running.
pub(crate) struct Control {
    pub(crate) machine: Machine,
    address: IpAddr,
    apiserver: Option<Daemon>,
    others: Vec<Daemon>,
}

impl Control {
    /// Starts it on a machine that has this address.
    pub(crate) fn start(programs: &Programs, machine: Machine, address: IpAddr) -> Result<Self> {
        let mut control = Control { machine, address, apiserver: None, others: Vec::new() };
        control.write_tokens()?;
        control.make_account_key(programs)?;
        control.start_etcd(programs)?;
        control.start_apiserver(programs)?;
        control.write_config("kubectl", ADMIN)?;
        control.start_controllers(programs)?;
        Ok(control)
    }

    /// Every user has a token that is their name.
    fn write_tokens(&self) -> Result<()> {
        let mut lines = format!("{ADMIN},{ADMIN},{ADMIN},system:masters\n");
        for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            lines += &format!("{name},system:{name},{name}\n");
        }
        for name in crate::node::NAMES {
            lines += &format!("{name},system:node:{name},{name},system:nodes\n");
        }
        self.machine.write(&file("tokens"), &lines)
    }

    /// The key that tokens of ServiceAccounts are signed with.
    fn make_account_key(&self, programs: &Programs) -> Result<()> {
        let openssl = programs.word("openssl");
        let make = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"];
        self.machine.run(&[&[openssl.as_str()], &make[..], &[&file("accounts.key")]].concat())?;
        Ok(())
    }

    fn start_etcd(&mut self, programs: &Programs) -> Result<()> {
        let etcd = programs.word("etcd");
        let words = [etcd.as_str(), "--data-dir=/run/kubernetes/etcd", "--unsafe-no-fsync"];
        self.others.push(Daemon::serve(&self.machine, "etcd", &words)?);
        Ok(())
    }

    /// Starts the API server, again if it was stopped.
    pub(crate) fn start_apiserver(&mut self, programs: &Programs) -> Result<()> {
        let address = self.address;
        let mut words = vec![programs.word("kube-apiserver")];
        words.extend(
            [
                "--etcd-servers=http://127.0.0.1:2379",
                // There it puts a certificate that it signs itself.
                "--cert-dir=/run/kubernetes",
                "--token-auth-file=/run/kubernetes/tokens",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-key-file=/run/kubernetes/accounts.key",
                "--service-account-signing-key-file=/run/kubernetes/accounts.key",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--endpoint-reconciler-type=master-count",
                "--kubelet-preferred-address-types=InternalIP",
            ]
            .map(str::to_owned),
        );
        words.push(format!("--bind-address={address}"));
        words.push(format!("--advertise-address={address}"));
        words.push(format!("--service-cluster-ip-range={SERVICE_RANGE}"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.apiserver = Some(Daemon::serve(&self.machine, "kube-apiserver", &words)?);
        Ok(())
    }

    /// Stops the API server alone.
    pub(crate) fn stop_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().map_or(Ok(()), |running| running.stop(&self.machine, "KILL"))
    }

    fn start_controllers(&mut self, programs: &Programs) -> Result<()> {
        let (manager, scheduler) = ("kube-controller-manager", "kube-scheduler");
        let ranges = [POD_RANGE, SERVICE_RANGE];
        let [pods, services] = ["--cluster-cidr=", "--service-cluster-ip-range="];
        let options = [
            format!("--kubeconfig={}", self.write_config(manager, manager)?),
            format!("{pods}{}", ranges[0]),
            format!("{services}{}", ranges[1]),
            "--allocate-node-cidrs".to_owned(),
            // So small that one can be filled.
            "--node-cidr-mask-size=27".to_owned(),
            "--root-ca-file=/run/kubernetes/apiserver.crt".to_owned(),
            "--service-account-private-key-file=/run/kubernetes/accounts.key".to_owned(),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
        ];
        self.start_daemon(programs, manager, &options)?;
        let options = [
            format!("--kubeconfig={}", self.write_config(scheduler, scheduler)?),
            "--leader-elect=false".to_owned(),
        ];
        self.start_daemon(programs, scheduler, &options)
    }

    fn start_daemon(
        &mut self,
        programs: &Programs,
        name: &'static str,
        options: &[String],
    ) -> Result<()> {
        let program = programs.word(name);
        let options = options.iter().map(String::as_str);
        let words: Vec<&str> = [program.as_str()].into_iter().chain(options).collect();
        self.others.push(Daemon::start(&self.machine, name, &words)?);
        Ok(())
    }

    /// Writes what a client of the API server's has to know, and returns the file's name.
    fn write_config(&self, name: &str, token: &str) -> Result<String> {
        let file = file(&format!("{name}.conf"));
        self.machine.write(&file, &self.config(token)?)?;
        Ok(file)
    }

    /// What a client of the API server's has to know, for one with this token.
    pub(crate) fn config(&self, token: &str) -> Result<String> {
        let certificate = self.machine.path(&file("apiserver.crt"));
        let certificate =
            fs::read(&certificate).context(|| format!("read {}", certificate.display()))?;
        let config = include_str!("manifests/kubeconfig.yaml");
        Ok(config
            .replace("${SERVER}", &format!("https://{}:6443", self.address))
            .replace("${CA}", &STANDARD.encode(certificate))
            .replace("${TOKEN}", token))
    }

    /// Asks the API server as its administrator; `input` is what kubectl reads.
    pub(crate) fn kubectl(
        &self,
        programs: &Programs,
        words: &[&str],
        input: &str,
    ) -> Result<process::Finished> {
        let kubectl = programs.word("kubectl");
        let first = [kubectl.as_str(), "--kubeconfig=/run/kubernetes/kubectl.conf"];
        let words = [&first, words].concat();
        process::run(self.machine.command(&words), input.as_bytes(), crate::waiting::LONGEST)
    }
}

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}
