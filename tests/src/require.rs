//! Parts that a machine may lack: found, or skipped loudly, or demanded.
//!
//! A test that needs a part asks for it first and ends when it is not there. The skip is written by
//! name to the standard error and, for `scripts/test` to count, as a line of the file that
//! `CBR0_SKIP_LOG` names. What `CBR0_REQUIRE` lists (comma-separated) must be there: its absence is
//! a failure.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

use kernel::nft::{Family, Nft, Table};
use kernel::{NetNs, Rtnl};

use crate::error::{Context, LabError, Result};

/// Something outside of the project that a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `bird`, the routing daemon.
    Bird,
    /// `cnitool`, the reference runtime.
    Cnitool,
    /// The folder of containerd with what it runs, to lay over a root.
    Containerd,
    /// `crictl`, which asks a runtime as a kubelet does.
    Crictl,
    /// `dnsmasq`, which answers for names.
    Dnsmasq,
    /// `etcd`, with `etcdctl` beside it.
    Etcd,
    /// `ip`, of iproute2.
    Ip,
    /// The folder of `iptables-nft`, `iptables-legacy` and their like for IPv6 and for saving.
    Iptables,
    /// `nft`.
    Nft,
    /// `openssl`, the program.
    Openssl,
    /// `kind`, which makes clusters of containers.
    Kind,
    /// `kube-apiserver`, of Kubernetes.
    KubeApiserver,
    /// The folder of podman with what it runs, to lay over a root.
    Podman,
    /// The folder of the reference plugins.
    Reference,
    /// The folder of Debian's build of the reference plugins, an older release.
    ReferenceDebian,
    /// The folder with the `iptables` and the `nft` that the reference plugins run.
    Firewall,
    /// `strace`.
    Strace,
    /// `systemd-analyze`, of systemd. No systemd need run.
    SystemdAnalyze,
    /// The folder of user-mode Linux, as Debian's packages have it.
    Uml,
}

impl Part {
    /// The name in `CBR0_REQUIRE`, and of the file or folder in `CBR0_PARTS_DIR`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Bird => "bird",
            Part::Cnitool => "cnitool",
            Part::Containerd => "containerd",
            Part::Crictl => "crictl",
            Part::Dnsmasq => "dnsmasq",
            Part::Etcd => "etcd",
            Part::Ip => "ip",
            Part::Iptables => "iptables",
            Part::Kind => "kind",
            Part::KubeApiserver => "kube-apiserver",
            Part::Nft => "nft",
            Part::Openssl => "openssl",
            Part::Podman => "podman",
            Part::Reference => "reference",
            Part::ReferenceDebian => "reference-debian",
            Part::Firewall => "firewall",
            Part::Strace => "strace",
            Part::SystemdAnalyze => "systemd-analyze",
            Part::Uml => "uml",
        }
    }

    /// Where it is: in the folder that `CBR0_PARTS_DIR` names, or in `PATH`.
    pub fn find(self) -> Option<PathBuf> {
        let fetched = env::var_os("CBR0_PARTS_DIR").map(|dir| Path::new(&dir).join(self.name()));
        fetched.filter(|path| path.exists()).or_else(|| match self {
            Part::Containerd
            | Part::Firewall
            | Part::Iptables
            | Part::Podman
            | Part::Reference
            | Part::ReferenceDebian
            | Part::Uml => None,
            _ => in_path(self.name()),
        })
    }
}

/// Where `part` is; `None` when the test that asks must end, its skip being noted.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists a part that is not there.
pub fn part(part: Part) -> Result<Option<PathBuf>> {
    match part.find() {
        Some(path) => Ok(Some(path)),
        None => {
            missing(
                part.name(),
                "it is neither in CBR0_PARTS_DIR nor in PATH: scripts/parts fetches it",
            )?;
            Ok(None)
        }
    }
}

/// As [`part`], for the right to make network namespaces; `false` when the test must end.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists `root` and this process is not.
pub fn root() -> Result<bool> {
    if is_root()? {
        return Ok(true);
    }
    missing(
        "root",
        "the test makes network namespaces, which needs CAP_SYS_ADMIN: run it as root",
    )?;
    Ok(false)
}

/// As [`part`], for binaries as they are delivered and not as they are debugged; `false` when the
/// test must end.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists `release` and no folder of them is named.
pub fn release() -> Result<bool> {
    if env::var_os("CBR0_BIN_DIR").is_some() {
        return Ok(true);
    }
    missing("release", "CBR0_BIN_DIR names no folder of binaries: scripts/build makes one")?;
    Ok(false)
}

/// As [`part`], for a kind of link, such as `vlan`, that kernels may lack; `false` when the test must
/// end.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists the kind and the kernel does not know it.
pub fn link_kind(kind: &str) -> Result<bool> {
    let ns = NetNs::create()?;
    if Rtnl::open_in(&ns)?.knows_link_kind(kind)? {
        return Ok(true);
    }
    missing(kind, "this kernel does not know links of this kind: run the test on one that does")?;
    Ok(false)
}

/// As [`part`], for the file of which taps are made; `false` when the test must end.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists `tun` and the file cannot be opened.
pub fn tun() -> Result<bool> {
    match kernel::tun::probe() {
        Ok(()) => Ok(true),
        Err(error) => {
            missing("tun", &error.to_string())?;
            Ok(false)
        }
    }
}

/// As [`root`], and for the tables that see IPv4 and IPv6, which masquerading needs.
///
/// # Errors
/// As [`root`], or the kernel fails in another way than by not having them.
pub fn nf_tables() -> Result<bool> {
    tables(Family::Inet, "nf_tables", "the kernel was built without CONFIG_NF_TABLES_INET")
}

/// As [`root`], and for the tables that see what crosses a bridge, which `macspoofchk` needs.
///
/// # Errors
/// As [`nf_tables`].
pub fn bridge_nf_tables() -> Result<bool> {
    let reason = "the kernel was built without CONFIG_NF_TABLES_BRIDGE";
    tables(Family::Bridge, "nf_tables-bridge", reason)
}

fn tables(family: Family, part: &str, reason: &str) -> Result<bool> {
    if !root()? {
        return Ok(false);
    }
    let there = has_tables(family)?;
    if !there {
        missing(part, reason)?;
    }
    Ok(there)
}

/// As [`nf_tables`], for a test that only does less without them.
///
/// # Errors
/// As [`nf_tables`].
pub fn has_nf_tables() -> Result<bool> {
    has_tables(Family::Inet)
}

fn has_tables(family: Family) -> Result<bool> {
    let probe = Table { family, name: "probe" };
    match Nft::open_in(&NetNs::create()?).and_then(|mut nft| nft.commit(&[probe.add()])) {
        Ok(()) => Ok(true),
        Err(error) if error.is_unsupported() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// As [`part`], for bridges that filter by VLAN, which kernels may lack; `false` when the test must
/// end.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists `bridge-vlan` and the kernel cannot.
pub fn bridge_vlans() -> Result<bool> {
    if Rtnl::open_in(&NetNs::create()?)?.knows_vlan_filtering()? {
        return Ok(true);
    }
    missing(
        "bridge-vlan",
        "this kernel's bridges cannot filter by VLAN: run the test on one whose can",
    )?;
    Ok(false)
}

/// Notes the plugins that a test leaves out of a chain because they are not built.
///
/// # Errors
/// [`LabError::Required`] when `CBR0_REQUIRE` lists one of them as `plugin-NAME`.
pub fn plugins(chain: &str, left_out: &[String]) -> Result<()> {
    left_out.iter().try_for_each(|name| {
        let reason = format!("it is not built, and left out of {chain}");
        missing(&format!("plugin-{name}"), &reason)
    })
}

/// Whether this process may make network namespaces.
///
/// # Errors
/// `/proc` cannot be read.
pub fn is_root() -> Result<bool> {
    let file = "/proc/self/status";
    let status = fs::read_to_string(file).context(|| format!("read {file}"))?;
    Ok(may_administer(&status))
}

fn may_administer(proc_status: &str) -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let effective = proc_status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|set| set & CAP_SYS_ADMIN != 0)
}

fn missing(name: &str, reason: &str) -> Result<()> {
    let required = env::var("CBR0_REQUIRE").unwrap_or_default();
    if required.split(',').any(|word| word.trim() == name) {
        return Err(LabError::Required { part: name.to_owned(), reason: reason.to_owned() });
    }
    let test = running_test();
    // Written past the capture of the test harness, so that it is seen even when all tests pass.
    let line = format!("SKIPPED {test}: no {name}: {reason}\n");
    let mut stderr = std::io::stderr();
    stderr.write_all(line.as_bytes()).context(|| "write to the standard error".to_owned())?;
    let Some(log) = env::var_os("CBR0_SKIP_LOG") else { return Ok(()) };
    let mut log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log)
        .context(|| format!("open CBR0_SKIP_LOG {}", Path::new(&log).display()))?;
    // One write, so that tests running at once cannot mix their lines.
    log.write_all(line.as_bytes()).context(|| "write to CBR0_SKIP_LOG".to_owned())
}

/// `network::two_pods_on_one_node`: the test's file, and its name, which the harness gives to its
/// thread.
fn running_test() -> String {
    let executable = env::current_exe().ok();
    let file = executable
        .as_deref()
        .and_then(Path::file_stem)
        .and_then(|stem| stem.to_str())
        .unwrap_or("?");
    let file = file.rsplit_once('-').map_or(file, |(file, _hash)| file);
    let thread = thread::current();
    format!("{file}::{}", thread.name().unwrap_or("?"))
}

fn in_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_capability_is_asked_for() {
        assert!(may_administer("Name:\tx\nCapEff:\t0000000000200000\n"));
        assert!(!may_administer("Name:\tx\nCapEff:\t000001ffffdfffff\n"));
        assert!(!may_administer("Name:\tx\n"));
    }

    #[test]
    fn the_running_test_is_known_by_name() {
        assert!(running_test().starts_with("cbr0_tests::"), "{}", running_test());
        assert!(
            running_test().ends_with("the_running_test_is_known_by_name"),
            "{}",
            running_test()
        );
    }
}
