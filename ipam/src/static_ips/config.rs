//! The configuration of `static`: the keys of `ipam`, and the three places in which a runtime names
//! addresses.

use std::net::IpAddr;

use cni_conf::cni_args::CniArgs;
use cni_conf::conf::NetConf;
use cni_conf::error::{CniError, Code};
use cni_conf::json::{self, Object};
use cni_conf::result::{Dns, IpConfig, Route};
use cni_conf::version::SpecVersion;
use ipnetwork::IpNetwork;

use crate::config::{address_or_none, routes};

/// Everything an ADD answers with, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The addresses with their gateways. Empty only if they come with each ADD; see
    /// [`Config::require_addresses`].
    pub addresses: Vec<IpConfig>,
    /// Handed to the plugin that asks, as they are.
    pub routes: Vec<Route>,
    /// What the container's resolver is told.
    pub dns: Dns,
}

/// Why a configuration is refused. The texts are the reference's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The plugin was called without a configuration of its own.
    #[error("IPAM config missing 'ipam' key")]
    MissingIpam,
    /// An entry of `ipam.addresses` without a prefix length, or no address at all.
    #[error("the 'address' field is expected to be in CIDR notation, got: '{0}'")]
    Address(String),
    /// The same in `IP` of CNI_ARGS.
    #[error("the 'ip' field is expected to be in CIDR notation, got: '{0}'")]
    CniArgsIp(String),
    /// `GATEWAY` of CNI_ARGS is no address.
    #[error("invalid gateway address: {0}")]
    CniArgsGateway(String),
    /// An entry of `args.cni.ips` or `runtimeConfig.ips` without a prefix length, or no address.
    #[error("an entry in the 'ips' field is NOT in CIDR notation, got: '{0}'")]
    Ips(String),
    /// Results of these versions have one address a family.
    #[error("CNI version {0} does not support more than 1 address per family")]
    OnePerFamily(SpecVersion),
    /// Nobody named an address.
    #[error("no IP addresses configured")]
    NoAddresses,
}

impl ConfigError {
    /// What to change.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::MissingIpam => "add an \"ipam\" object of type static",
            Self::Address(_) | Self::CniArgsIp(_) | Self::Ips(_) => {
                "write it as address/prefix length, such as 10.1.0.5/16"
            }
            Self::CniArgsGateway(_) => "write it as 10.1.0.1 (no leading zeros) or 2001:db8::1",
            Self::OnePerFamily(_) => {
                "set cniVersion to 0.3.0 or later, or leave one address of IPv4 and one of IPv6"
            }
            Self::NoAddresses => {
                "give ipam \"addresses\", or let the runtime name some in runtimeConfig.ips \
                 (capability \"ips\"), args.cni.ips or IP of CNI_ARGS"
            }
        }
    }
}

impl From<ConfigError> for CniError {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::CniArgsIp(_) | ConfigError::CniArgsGateway(_) => Code::InvalidEnvironment,
            _ => Code::InvalidConfig,
        };
        Self::new(code, error.to_string()).with_details(error.remedy())
    }
}

impl Config {
    /// Reads and checks the whole configuration. `cni_args` is CNI_ARGS.
    ///
    /// # Errors
    /// Code 7 for what makes no sense, 6 for a value of the wrong type, 4 for CNI_ARGS.
    pub fn parse(conf: &NetConf, cni_args: &str) -> Result<Self, CniError> {
        let ipam = conf.ipam()?.ok_or(ConfigError::MissingIpam)?;
        let addresses = addresses(conf, ipam, cni_args)?;
        check_versions_limit(&addresses, conf.version)?;
        let dns = ipam.object("dns")?.map(|dns| Dns::from_object(&dns)).transpose()?;
        Ok(Self { addresses, routes: routes(ipam)?, dns: dns.unwrap_or_default() })
    }

    /// Refuses a configuration without any address.
    ///
    /// # Errors
    /// [`ConfigError::NoAddresses`]
    pub fn require_addresses(&self) -> Result<(), ConfigError> {
        if self.addresses.is_empty() { Err(ConfigError::NoAddresses) } else { Ok(()) }
    }
}

/// The addresses of `runtimeConfig.ips`; without any, those of `args.cni.ips`; without any, those
/// of the configuration and of CNI_ARGS together. What is passed over need not make sense, but for
/// CNI_ARGS, as in the reference.
fn addresses(conf: &NetConf, ipam: &Object, cni_args: &str) -> Result<Vec<IpConfig>, CniError> {
    let of_cni_args = from_cni_args(cni_args)?;
    for object in [conf.runtime_config()?, conf.args_cni()?] {
        let texts: Vec<String> = object.get("ips")?.unwrap_or_default();
        if !texts.is_empty() {
            return Ok(without_gateways(texts.iter().map(String::as_str), ConfigError::Ips)?);
        }
    }
    let mut addresses = from_ipam(ipam)?;
    addresses.extend(of_cni_args);
    Ok(addresses)
}

fn from_ipam(ipam: &Object) -> Result<Vec<IpConfig>, CniError> {
    let entries = ipam.objects("addresses")?;
    let addresses = entries.iter().map(|entry| {
        let text: String = entry.get("address")?.unwrap_or_default();
        let address = network(&text, ConfigError::Address)?;
        Ok(IpConfig { interface: None, address, gateway: address_or_none(entry, "gateway")? })
    });
    addresses.collect()
}

/// `IP` and `GATEWAY` are lists; a gateway belongs to the addresses in whose network it is.
fn from_cni_args(cni_args: &str) -> Result<Vec<IpConfig>, CniError> {
    let args = CniArgs::parse(cni_args, &["IP", "GATEWAY"])?;
    let list = |key| args.get(key).into_iter().filter(|text| !text.is_empty());
    let items = |key| list(key).flat_map(|text| text.split(',')).map(str::trim);

    let mut addresses = without_gateways(items("IP"), ConfigError::CniArgsIp)?;
    for text in items("GATEWAY") {
        let gateway: IpAddr =
            json::ip(text).map_err(|_| ConfigError::CniArgsGateway(text.to_owned()))?;
        for ip in addresses.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(addresses)
}

fn without_gateways<'a>(
    texts: impl Iterator<Item = &'a str>,
    refusal: fn(String) -> ConfigError,
) -> Result<Vec<IpConfig>, ConfigError> {
    let with = |address| IpConfig { interface: None, address, gateway: None };
    texts.map(|text| network(text, refusal).map(with)).collect()
}

fn network(text: &str, refusal: fn(String) -> ConfigError) -> Result<IpNetwork, ConfigError> {
    json::cidr(text).map_err(|_| refusal(text.to_owned()))
}

fn check_versions_limit(addresses: &[IpConfig], version: SpecVersion) -> Result<(), ConfigError> {
    let of_v4 = addresses.iter().filter(|ip| ip.address.is_ipv4()).count();
    let most = of_v4.max(addresses.len() - of_v4);
    if most > 1 && version < SpecVersion::V0_3_0 {
        return Err(ConfigError::OnePerFamily(version));
    }
    Ok(())
}
