//! The configuration of `host-local`: the keys of `ipam`, and the addresses that a runtime asks
//! for in three other places.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_conf::cni_args::CniArgs;
use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::{self, AddressError, DecodeError, Object};
use cni_conf::result::{CniResult, Route};
use cni_conf::version::SpecVersion;
use ipnetwork::IpNetwork;

use crate::range::RangeSpec;
use crate::range_set::{RangeSet, RangeSetError};
use crate::store::{DEFAULT_DATA_DIR, OfEarlierBoots, Store};

/// Everything an ADD needs, checked.
#[derive(Debug)]
pub struct Config {
    /// Where the reservations are.
    pub store: Store,
    /// One address of each is given, in this order. Empty only in a configuration whose ranges
    /// come with each ADD; see [`Config::require_ranges`].
    pub sets: Vec<RangeSet>,
    /// The addresses asked for.
    pub requested: Vec<IpAddr>,
    /// Handed to the plugin that asks, as they are.
    pub routes: Vec<Route>,
    /// The file whose content becomes the result's `dns`.
    pub resolv_conf: Option<PathBuf>,
    /// `restTime`: how long an address is given to nobody after it was freed, if there is another.
    pub rest_time: Duration,
    /// `idempotentAdd`: an ADD of who has an address already gives that one again.
    pub idempotent_add: bool,
    /// `reclaimAfterReboot`: what becomes of reservations from before the boot.
    pub earlier_boots: OfEarlierBoots,
    /// `statusWhenFull`: STATUS says no when a range is full.
    pub status_when_full: bool,
}

/// `restTime` unless the configuration has another, in seconds.
const REST_TIME: u64 = 30;

/// Why a configuration is refused. The texts are the reference's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value of the wrong JSON type.
    #[error(transparent)]
    Type(#[from] DecodeError),
    /// A value of the right type that makes no sense.
    #[error("{0}")]
    Value(DecodeError),
    /// An address in CNI_ARGS that is none.
    #[error("CNI_ARGS: {0}")]
    CniArgs(AddressError),
    /// The plugin was called without a configuration of its own.
    #[error("IPAM config missing 'ipam' key")]
    MissingIpam,
    /// Neither `subnet` nor `ranges` nor `ipRanges`.
    #[error("no IP ranges specified")]
    NoRanges,
    /// A set that is refused by itself.
    #[error("invalid range set {index}: {source}")]
    Set {
        /// Its place: `ipRanges` first, then the single range, then `ranges`.
        index: usize,
        /// What is wrong with it.
        source: RangeSetError,
    },
    /// Results of these versions have one address a family.
    #[error("CNI version {0} does not support more than 1 address per family")]
    OnePerFamily(SpecVersion),
    /// Two sets with an address in common.
    #[error("range set {0} overlaps with {1}")]
    SetsOverlap(usize, usize),
}

impl ConfigError {
    /// What to change; empty where the message says it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Type(_) | Self::Value(_) | Self::CniArgs(_) => String::new(),
            Self::MissingIpam => "add an \"ipam\" object of type host-local".into(),
            Self::NoRanges => "give ipam a \"subnet\" or \"ranges\", or let the runtime send \
                               runtimeConfig.ipRanges (capability \"ipRanges\")"
                .into(),
            Self::Set { source, .. } => source.remedy(),
            Self::OnePerFamily(_) => "set cniVersion to 0.3.0 or later, or leave one range set \
                                      for IPv4 and one for IPv6"
                .into(),
            Self::SetsOverlap(..) => "give the sets disjoint ranges; pools of one address belong \
                                      in one set"
                .into(),
        }
    }
}

impl Config {
    /// Reads and checks the whole configuration. `cni_args` is CNI_ARGS.
    ///
    /// # Errors
    /// Code 7 for what makes no sense, 6 for a value of the wrong type, 4 for CNI_ARGS.
    pub fn parse(conf: &NetConf, cni_args: &str) -> Result<Self, CniError> {
        let ipam = ipam(conf)?;
        let resolv_conf: Option<String> = ipam.get("resolvConf")?;
        Ok(Self {
            store: store(conf)?,
            requested: requested(conf, cni_args)?,
            sets: range_sets(conf, ipam)?,
            routes: routes(ipam)?,
            resolv_conf: resolv_conf.filter(|path| !path.is_empty()).map(PathBuf::from),
            rest_time: Duration::from_secs(ipam.get("restTime")?.unwrap_or(REST_TIME)),
            idempotent_add: ipam.get("idempotentAdd")?.unwrap_or_default(),
            earlier_boots: earlier_boots(ipam)?,
            status_when_full: ipam.get("statusWhenFull")?.unwrap_or_default(),
        })
    }

    /// Refuses a configuration without any range: an ADD could give no address.
    ///
    /// # Errors
    /// [`ConfigError::NoRanges`]
    pub fn require_ranges(&self) -> Result<(), ConfigError> {
        if self.sets.is_empty() { Err(ConfigError::NoRanges) } else { Ok(()) }
    }
}

/// Where the reservations of the network are. Reads `dataDir` and the network's name and nothing
/// else, so that an address can be given back with a configuration that is broken elsewhere.
///
/// # Errors
/// Code 7 without `ipam`, 6 if `dataDir` is no string.
pub fn store(conf: &NetConf) -> Result<Store, CniError> {
    let data_dir: String = ipam(conf)?.get("dataDir")?.unwrap_or_default();
    let data_dir = if data_dir.is_empty() { DEFAULT_DATA_DIR } else { &data_dir };
    Ok(Store::new(Path::new(data_dir), &conf.name))
}

/// Whether the runtime sends ranges with each ADD, as it does for a plugin that declares the
/// capability. It sends none with STATUS.
///
/// # Errors
/// Code 6 if `capabilities.ipRanges` is no boolean.
pub fn ranges_come_with_add(conf: &NetConf) -> Result<bool, CniError> {
    let capabilities = conf.object().object("capabilities")?.unwrap_or_default();
    Ok(capabilities.get("ipRanges")?.unwrap_or_default())
}

fn earlier_boots(ipam: &Object) -> Result<OfEarlierBoots, DecodeError> {
    let reclaim: bool = ipam.get("reclaimAfterReboot")?.unwrap_or_default();
    Ok(if reclaim { OfEarlierBoots::Reclaim } else { OfEarlierBoots::Keep })
}

fn ipam(conf: &NetConf) -> Result<&Object, CniError> {
    Ok(conf.ipam()?.ok_or(ConfigError::MissingIpam)?)
}

/// All sets, checked one by one and against each other: those of the runtime, the single range of
/// the old form, those of `ranges`. Their order is interface, for `last_reserved_ip.N` counts it.
fn range_sets(conf: &NetConf, ipam: &Object) -> Result<Vec<RangeSet>, CniError> {
    let mut specs = nested_ranges(&conf.runtime_config()?, "ipRanges")?;
    specs.extend(range(ipam)?.map(|single| vec![single]));
    specs.extend(nested_ranges(ipam, "ranges")?);

    let checked = specs.iter().enumerate().map(|(index, specs)| {
        RangeSet::new(specs).map_err(|source| ConfigError::Set { index, source })
    });
    let sets = checked.collect::<Result<Vec<_>, _>>()?;
    check_versions_limit(&sets, conf.version)?;
    check_disjoint(&sets)?;
    Ok(sets)
}

fn check_versions_limit(sets: &[RangeSet], version: SpecVersion) -> Result<(), ConfigError> {
    let of_v4 = sets.iter().filter(|set| set.is_ipv4()).count();
    let most = of_v4.max(sets.len() - of_v4);
    if most > 1 && version < SpecVersion::V0_3_0 {
        return Err(ConfigError::OnePerFamily(version));
    }
    Ok(())
}

fn check_disjoint(sets: &[RangeSet]) -> Result<(), ConfigError> {
    for (index, set) in sets.iter().enumerate() {
        if let Some(more) = sets[index + 1..].iter().position(|other| set.overlaps(other)) {
            return Err(ConfigError::SetsOverlap(index, index + 1 + more));
        }
    }
    Ok(())
}

/// A list of lists of ranges.
fn nested_ranges(object: &Object, key: &str) -> Result<Vec<Vec<RangeSpec>>, ConfigError> {
    let sets: Vec<Vec<Object>> = object.get(key)?.unwrap_or_default();
    let path = object.path_of(key);
    let mut specs = Vec::with_capacity(sets.len());
    for (index, set) in sets.into_iter().enumerate() {
        let ranges = set.into_iter().enumerate().map(|(place, object)| {
            let object = object.at(format!("{path}[{index}][{place}]"));
            let missing = || object.error("subnet", "a range must have one, such as 10.1.0.0/24");
            range(&object)?.ok_or_else(|| ConfigError::Value(missing()))
        });
        specs.push(ranges.collect::<Result<_, _>>()?);
    }
    Ok(specs)
}

/// The range whose keys stand in `object`; `None` without a subnet, as the reference has it.
fn range(object: &Object) -> Result<Option<RangeSpec>, ConfigError> {
    let start = address_or_none(object, "rangeStart")?;
    let end = address_or_none(object, "rangeEnd")?;
    let gateway = address_or_none(object, "gateway")?;
    let Some(subnet) = object.get::<String>("subnet")? else {
        return Ok(None);
    };
    let subnet = json::cidr(&subnet).map_err(|error| value_error(object, "subnet", &error))?;
    let exclude = excluded(object)?;
    Ok(Some(RangeSpec { subnet, start, end, gateway, exclude }))
}

/// Addresses and networks that are never handed out.
fn excluded(object: &Object) -> Result<Vec<IpNetwork>, ConfigError> {
    let texts: Vec<String> = object.get("exclude")?.unwrap_or_default();
    let network = |text: &String| {
        if text.contains('/') { json::cidr(text) } else { json::ip(text).map(IpNetwork::from) }
    };
    let wrong = |error| value_error(object, "exclude", &error);
    texts.iter().map(|text| network(text).map_err(wrong)).collect()
}

/// An address; Go takes `""` for none.
pub(crate) fn address_or_none(object: &Object, key: &str) -> Result<Option<IpAddr>, ConfigError> {
    match object.get::<String>(key)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => json::ip(text).map(Some).map_err(|error| value_error(object, key, &error)),
    }
}

/// The addresses a runtime asks for: the one of CNI_ARGS, then `args.cni.ips`, then
/// `runtimeConfig.ips`.
fn requested(conf: &NetConf, cni_args: &str) -> Result<Vec<IpAddr>, CniError> {
    let mut requested = Vec::new();
    let args = CniArgs::parse(cni_args, &["IP"])?;
    if let Some(text) = args.get("IP").filter(|text| !text.is_empty()) {
        requested.push(address_or_cidr(text).map_err(ConfigError::CniArgs)?);
    }
    for object in [conf.args_cni()?, conf.runtime_config()?] {
        let texts: Vec<String> = object.get("ips")?.unwrap_or_default();
        for text in texts {
            let address =
                address_or_cidr(&text).map_err(|error| value_error(&object, "ips", &error))?;
            requested.push(address);
        }
    }
    Ok(requested)
}

/// An address with or without a prefix length, which counts for nothing: the range's is used.
fn address_or_cidr(text: &str) -> Result<IpAddr, AddressError> {
    if text.contains('/') { json::cidr(text).map(|network| network.ip()) } else { json::ip(text) }
}

/// `routes` has the format of a result's routes, so the reader of results reads it.
pub(crate) fn routes(ipam: &Object) -> Result<Vec<Route>, CniError> {
    match ipam.raw("routes") {
        Some(routes) => {
            let result = format!("{{\"routes\": {}}}", routes.get());
            Ok(CniResult::parse(&result, SpecVersion::LATEST)?.routes)
        }
        None => Ok(Vec::new()),
    }
}

fn value_error(object: &Object, key: &str, error: &AddressError) -> ConfigError {
    ConfigError::Value(object.error(key, error.to_string()))
}

#[cfg(test)]
mod tests;
