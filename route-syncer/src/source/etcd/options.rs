//! The options of everything that talks to etcd.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::timing::Timing;

/// Where etcd is, how it is entered, and who this node is there.
#[derive(Clone, Debug, Args)]
pub struct EtcdOptions {
    /// Where etcd is: one URL, or those of several members, with commas between them.
    #[arg(long = "etcd-endpoints", value_name = "URL", value_delimiter = ',')]
    pub endpoints: Vec<String>,

    /// The prefix of the keys. Below it they are laid out as flannel's; the two can share it.
    ///
    /// The key <PREFIX>/config must be there: {"Network": "10.0.0.0/14", "SubnetLen": 24}. For
    /// dual stack add "EnableIPv6": true, "IPv6Network": "fd00::/48".
    #[arg(long = "etcd-prefix", value_name = "PREFIX", default_value = "/coreos.com/network")]
    pub prefix: String,

    /// The certificate of the CA that signed etcd's.
    #[arg(long = "etcd-cafile", value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// This node's certificate for etcd.
    #[arg(long = "etcd-certfile", value_name = "PATH")]
    pub cert_file: Option<PathBuf>,

    /// The key of --etcd-certfile.
    #[arg(long = "etcd-keyfile", value_name = "PATH")]
    pub key_file: Option<PathBuf>,

    /// The user for etcd.
    #[arg(long = "etcd-username", value_name = "NAME")]
    pub username: Option<String>,

    /// A file with the password of --etcd-username.
    #[arg(long = "etcd-password-file", value_name = "PATH")]
    pub password_file: Option<PathBuf>,

    /// How patient this node is with it.
    #[command(flatten)]
    pub timing: Timing,

    /// The address by which other nodes reach this one, at most one a family [default: the ones
    /// of the default routes]
    #[arg(long = "node-address", value_name = "IP")]
    pub node_addresses: Vec<IpAddr>,

    /// The file with this machine's ID, by which etcd knows the node again.
    #[arg(long, value_name = "PATH", default_value = "/etc/machine-id")]
    pub machine_id: PathBuf,

    /// The folder for what is remembered across a reboot: this node's subnet, and the others.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/cbr0")]
    pub state_dir: PathBuf,
}
