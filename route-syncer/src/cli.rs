//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;

use crate::host::options::HostOptions;
use crate::off_link::OffLinkOptions;
use crate::serve::options::ServeOptions;
use crate::source::etcd::options::EtcdOptions;
use crate::source::kubernetes::options::KubernetesOptions;
use crate::unreachable::Unreachable;
use crate::{conflist, install, subnet_env};

/// Keeps this node's routes to the Pods of all other nodes.
///
/// The routes stay when it stops. What it logs goes to stderr; RUST_LOG sets how much.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The protocol number of our routes, unless another is given.
pub const PROTOCOL: u8 = 214;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the routes until told to stop (SIGTERM, SIGINT).
    Run(Run),
    /// Print the `ip route` commands by which a daemon that starts now would change the routes.
    ///
    /// It takes the options of `run`, reads the same facts, and writes nothing. Exits with 0 if
    /// there is nothing to do, 1 if there is, 2 if that cannot be told.
    Diff(Daemon),
    /// Show the routes, as they are now.
    ///
    /// Exits with 0 if all is well, 1 if something is not, 2 if that cannot be told.
    Status(Status),
    /// Say what is wrong on this node, each with its remedy.
    ///
    /// Exits with 0 if nothing is, 1 if something is, 2 if that cannot be told.
    Check(Check),
    /// Give this node's subnet in etcd back, for good: the other nodes remove their routes to it.
    ///
    /// A daemon that runs here goes on, with its routes; it joins again only when it is started
    /// again. If none runs, the next one takes any subnet that is free.
    Leave(Leave),
    /// Confirm that another node is gone for good: every node removes its routes to it.
    ///
    /// The routes to a node whose lease in etcd has expired are held until then, for it may well
    /// be alive. A node that was alive after all takes its subnet again by itself.
    Forget(Forget),
    /// Remove what the daemon left on this node: its routes, its masquerade rules, its files.
    ///
    /// Stop the daemon first. A lease in etcd stays (`leave` gives it back), and so do the lock
    /// file, the conflist and forwarding.
    Cleanup(Cleanup),
    /// Put the plugins where container runtimes look.
    ///
    /// A file of the same name that is not of cbr0 is kept aside, as NAME.cbr0-saved. What an
    /// interrupted run left, the next one finishes.
    Install(Install),
    /// Take the plugins away again, and put back what was kept aside.
    ///
    /// Stop the daemon first, and take down the Pods: without the plugins they cannot be. Routes
    /// and reservations stay.
    Uninstall(Uninstall),
}

/// The options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What the daemon is to do.
    #[command(flatten)]
    pub daemon: Daemon,

    /// Write nothing, neither to the kernel nor to files nor to the source: print the `ip route`
    /// commands that would be run, whenever they change.
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of a daemon.
#[derive(Debug, Args)]
pub struct Daemon {
    /// Where the list of nodes comes from.
    #[arg(long, value_enum)]
    pub source: SourceKind,

    /// The list of nodes for --source file. It is watched; an edit takes effect at once.
    ///
    /// A JSON list: [{"name": "node1", "address": "10.100.0.2", "podCIDRs": ["10.0.1.0/24"]}, …].
    /// For dual stack, "addresses" takes a list with one address a family.
    ///
    /// A broken file changes nothing. If more than half of at least four other nodes are missing
    /// from it at once, or all nodes, then their routes are held: list the nodes again, or remove
    /// them in steps of at most half.
    #[arg(long, value_name = "PATH", required_if_eq("source", "file"))]
    pub nodes_file: Option<PathBuf>,

    /// How etcd is reached, and how this node is known there, for --source etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,

    /// How long this node's lease in etcd outlives its last sign of life. Its routes on other nodes
    /// outlive the lease.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    pub lease_ttl: Duration,

    /// How the API server is reached, for --source kubernetes.
    #[command(flatten)]
    pub kubernetes: KubernetesOptions,

    /// This node's name in the list [default: the host name; with --source kubernetes in lower
    /// case, as kubelets take it]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// A range that is in the cluster, or several with commas: what Pods send there keeps their
    /// address. Nodes and their Pod CIDRs always are.
    ///
    /// Of a family that has such a range, no other node can claim a range that is in none of them.
    /// (With --source etcd, Network in etcd decides that.)
    #[arg(long = "cluster-cidr", value_name = "CIDR", value_delimiter = ',', value_parser = range)]
    pub cluster_cidrs: Vec<IpNetwork>,

    /// A range that no node may claim, such as the services', or several with commas.
    #[arg(long = "service-cidr", value_name = "CIDR", value_delimiter = ',', value_parser = range)]
    pub service_cidrs: Vec<IpNetwork>,

    /// How many routes to other nodes there can be, at most. Claims beyond are refused; who has a
    /// route keeps it.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_routes: usize,

    /// The protocol number that marks the routes as ours (/etc/iproute2/rt_protos).
    ///
    /// All routes of this number in the main table are taken for ours.
    #[arg(long, value_name = "N", default_value_t = PROTOCOL,
          value_parser = clap::value_parser!(u8).range(5..))]
    pub protocol: u8,

    /// Which ranges are unreachable where no better route leads.
    #[command(flatten)]
    pub unreachable: Unreachable,

    /// What is done about nodes behind a router.
    #[command(flatten)]
    pub off_link: OffLinkOptions,

    /// The folder for the daemon's lock and status.
    #[arg(long, value_name = "PATH", default_value = "/run/cbr0")]
    pub run_dir: PathBuf,

    /// Write the network configuration for container runtimes, with this node's Pod CIDRs and the
    /// uplink's MTU: when the first sync is done, and again when they change. It is not removed
    /// when the daemon stops. Without a path: /etc/cni/net.d/10-cbr0.conflist
    #[arg(long, value_name = "PATH", num_args = 0..=1,
          default_missing_value = conflist::DEFAULT_PATH)]
    pub conflist: Option<PathBuf>,

    /// The MTU of Pods, for the files that are written [default: the smallest of the links that have
    /// this node's addresses or lead to other nodes, less what a tunnel takes]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub mtu: Option<u32>,

    /// Write this node's subnet as flannel does, for those who read that; the cluster's ranges are
    /// those of --cluster-cidr. Without a path: /run/flannel/subnet.env
    #[arg(long, value_name = "PATH", num_args = 0..=1,
          default_missing_value = subnet_env::DEFAULT_PATH)]
    pub subnet_env: Option<PathBuf>,

    /// What is not done about the host.
    #[command(flatten)]
    pub host: HostOptions,

    /// How the daemon can be asked.
    #[command(flatten)]
    pub serve: ServeOptions,
}

/// Where the facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// A file with a JSON list of nodes.
    File,
    /// Leases in etcd, in flannel's layout: each node takes its own subnet.
    Etcd,
    /// The Node objects of Kubernetes: each node has the Pod ranges that it was given there.
    Kubernetes,
}

/// The options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The folder that the daemon was given.
    #[arg(long, value_name = "PATH", default_value = "/run/cbr0")]
    pub run_dir: PathBuf,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,

    /// Go on, and show them again whenever something has changed (with --json, a document a line).
    #[arg(long)]
    pub watch: bool,
}

/// The options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The folder that the daemon was given.
    #[arg(long, value_name = "PATH", default_value = "/run/cbr0")]
    pub run_dir: PathBuf,
}

/// The options of `cleanup`.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// The folder that the daemon was given.
    #[arg(long, value_name = "PATH", default_value = "/run/cbr0")]
    pub run_dir: PathBuf,

    /// The folder of what was learned from etcd.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/cbr0")]
    pub state_dir: PathBuf,

    /// The protocol number that the daemon was given [default: that of the last daemon, or 214]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(5..))]
    pub protocol: Option<u8>,
}

/// The options of `leave`.
#[derive(Debug, Args)]
pub struct Leave {
    /// This node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Where the lease is.
    #[command(flatten)]
    pub etcd: EtcdOptions,

    /// The folder that the daemon was given.
    #[arg(long, value_name = "PATH", default_value = "/run/cbr0")]
    pub run_dir: PathBuf,
}

/// The options of `forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// The node that is gone, by the name that `status` shows.
    #[arg(value_name = "NODE")]
    pub gone: String,

    /// This node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Where the lease was.
    #[command(flatten)]
    pub etcd: EtcdOptions,
}

/// The options of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The folder that container runtimes look into.
    #[arg(long, value_name = "DIR", default_value = install::BIN_DIR)]
    pub bin_dir: PathBuf,

    /// The folder that the plugins are in now [default: this program's]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The folder that container runtimes look into.
    #[arg(long, value_name = "DIR", default_value = install::BIN_DIR)]
    pub bin_dir: PathBuf,

    /// Remove this conflist too, if the daemon wrote it. Without a path:
    /// /etc/cni/net.d/10-cbr0.conflist
    #[arg(long, value_name = "PATH", num_args = 0..=1,
          default_missing_value = conflist::DEFAULT_PATH)]
    pub conflist: Option<PathBuf>,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// A number of seconds, or of minutes or hours with a letter behind it. Etcd has no shorter leases
/// than of a second or two.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let number: u64 = number.parse().map_err(|_| "write it like 90, 90s, 30m or 24h".to_owned())?;
    let seconds = number.saturating_mul(match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    });
    match seconds {
        2..=2_592_000 => Ok(Duration::from_secs(seconds)),
        _ => Err("it must be between 2s and 720h".to_owned()),
    }
}

fn range(text: &str) -> Result<IpNetwork, String> {
    let range = cni_conf::json::cidr(text).map_err(|error| error.to_string())?;
    let network = crate::ranges::network(range);
    if network == range { Ok(range) } else { Err(format!("host bits are set; write {network}")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refusal(arguments: &str) -> String {
        let words = std::iter::once("route-syncer").chain(arguments.split_whitespace());
        Cli::try_parse_from(words).expect_err(arguments).to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_file_source_needs_a_file() {
        assert!(refusal("run --source file").contains("--nodes-file"));
        assert!(refusal("run").contains("--source"));
    }

    #[test]
    fn times_have_units_and_bounds() {
        for (text, seconds) in [("90", 90), ("2s", 2), ("30m", 1800), ("24h", 86_400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "h", "1", "1d", "-5", "721h", "99999999999999999999h"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn protocols_of_the_kernel_and_of_administrators_are_refused() {
        for protocol in ["0", "2", "3", "4", "256"] {
            let text = refusal(&format!("run --source file --nodes-file x --protocol {protocol}"));
            assert!(text.contains("5..=255"), "{text}");
        }
    }

    #[test]
    fn files_of_the_node_are_written_where_asked_for() {
        let run = |more: &str| {
            let text = format!("route-syncer run --source file --nodes-file x {more}");
            match Cli::try_parse_from(text.split_whitespace()).unwrap().command {
                Command::Run(Run { daemon, .. }) => [daemon.conflist, daemon.subnet_env],
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(run(""), [None, None]);
        let paths = [conflist::DEFAULT_PATH, subnet_env::DEFAULT_PATH];
        assert_eq!(run("--conflist --subnet-env"), paths.map(|path| Some(path.into())));
        assert_eq!(run("--conflist /a --subnet-env /b"), ["/a", "/b"].map(|p| Some(p.into())));
    }

    #[test]
    fn ranges_are_unreachable_unless_told_otherwise() {
        let run = |more: &str| {
            let text = format!("route-syncer run --source file --nodes-file x {more}");
            match Cli::try_parse_from(text.split_whitespace()).unwrap().command {
                Command::Run(Run { daemon: Daemon { unreachable, .. }, .. }) => unreachable,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(run(""), Unreachable { own: true, cluster: true });
        assert_eq!(run("--own-unreachable --cluster-unreachable"), run(""));
        let own = run("--cluster-unreachable=false");
        assert_eq!(own, Unreachable { own: true, cluster: false });
        let cluster = run("--own-unreachable=false");
        assert_eq!(cluster, Unreachable { own: false, cluster: true });
    }

    #[test]
    fn ranges_may_be_several_with_commas_as_kubernetes_has_them() {
        let run = "route-syncer run --source file --nodes-file x";
        let ranges = "--cluster-cidr 10.0.0.0/14,fd00::/48 --cluster-cidr 10.8.0.0/16";
        let services = "--service-cidr 10.96.0.0/16,fd00:96::/112";
        let text = format!("{run} {ranges} {services}");
        let Command::Run(Run { daemon, .. }) =
            Cli::try_parse_from(text.split_whitespace()).unwrap().command
        else {
            panic!("{text}")
        };
        let texts =
            |ranges: &[IpNetwork]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&daemon.cluster_cidrs), ["10.0.0.0/14", "fd00::/48", "10.8.0.0/16"]);
        assert_eq!(texts(&daemon.service_cidrs), ["10.96.0.0/16", "fd00:96::/112"]);
    }

    #[test]
    fn ranges_are_refused_with_a_remedy() {
        let run = "run --source file --nodes-file x --cluster-cidr";
        assert!(refusal(&format!("{run} 10.0.0.0")).contains("10.0.0.0"));
        assert!(refusal(&format!("{run} 10.1.0.0/14")).contains("10.0.0.0/14"));
    }
}
