//! The option by which settings of the host are left to the administrator.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// What is not done about the host.
#[derive(Clone, Debug, Default, Args)]
pub struct HostOptions {
    /// Leave these settings of the host alone: neither set nor check them.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    pub skip_host_setting: Vec<Name>,
}

/// A setting of the host that Pods need to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Set: the kernel passes packets on, in the families of the cluster.
    Forwarding,
    /// Set: what drops forwarded packets by default (iptables-nft) lets this node's Pods through.
    ForwardAccept,
    /// Checked: no link drops packets for coming in by another one than answers leave by.
    RpFilter,
    /// Checked: with kube-proxy, packets between Pods of this node pass its rules.
    BrNetfilter,
    /// Checked: with more than 500 nodes, the neighbour table holds them.
    Neighbours,
    /// Checked: systemd-networkd does not remove our routes.
    Networkd,
}

impl Name {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Name; 6] = [
        Name::Forwarding,
        Name::ForwardAccept,
        Name::RpFilter,
        Name::BrNetfilter,
        Name::Neighbours,
        Name::Networkd,
    ];
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Name::Forwarding => "forwarding",
            Name::ForwardAccept => "forward-accept",
            Name::RpFilter => "rp-filter",
            Name::BrNetfilter => "br-netfilter",
            Name::Neighbours => "neighbours",
            Name::Networkd => "networkd",
        })
    }
}
