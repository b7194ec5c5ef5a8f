//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::Object;
use kernel::traffic::TokenBucket;
use plugin_interface::{Error, Result};

/// How long a packet may wait unless `latency` says otherwise, in milliseconds.
const LATENCY: u64 = 25;
/// The longest that `latency` may be: a minute.
const LATENCY_MAX: u64 = 60_000;

/// The plugin's keys, checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    /// What the container receives; no limit if there is none.
    pub(crate) ingress: Option<TokenBucket>,
    /// What it sends.
    pub(crate) egress: Option<TokenBucket>,
}

/// One direction: the names of its keys, for errors.
struct Direction {
    rate: &'static str,
    burst: &'static str,
}

const INGRESS: Direction = Direction { rate: "ingressRate", burst: "ingressBurst" };
const EGRESS: Direction = Direction { rate: "egressRate", burst: "egressBurst" };

impl Conf {
    /// Reads and checks the plugin's keys. If the network itself says anything about rates and
    /// bursts, what the runtime says does not count.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        let runtime = conf.runtime_config()?;
        let of_runtime = runtime.object("bandwidth").map_err(CniError::from)?.unwrap_or_default();
        let own = conf.object();
        let latency = latency(conf)?;
        let read = |object: &Object| -> Result<Conf> {
            let bucket = |direction: Direction| direction.bucket(object, latency);
            Ok(Conf { ingress: bucket(INGRESS)?, egress: bucket(EGRESS)? })
        };
        let (own_limits, of_runtime) = (read(own)?, read(&of_runtime)?);
        let keys = [INGRESS.rate, INGRESS.burst, EGRESS.rate, EGRESS.burst];
        let is_given = |key: &str| keys.iter().any(|known| known.eq_ignore_ascii_case(key));
        Ok(if own.keys().any(is_given) { own_limits } else { of_runtime })
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Conf::default()
    }
}

impl Direction {
    /// The bucket that an object's keys describe, in bits a second and bits.
    fn bucket(&self, object: &Object, latency: u64) -> Result<Option<TokenBucket>> {
        let number = |key: &str| object.get::<u64>(key).map_err(CniError::from);
        let rate = number(self.rate)?.unwrap_or_default();
        let burst = number(self.burst)?.unwrap_or_default();
        let wrong = |key: &'static str, value: u64, reason: &str| {
            Err(Error::Config { key, value: value.to_string(), reason: reason.into() })
        };
        match (rate, burst) {
            (0, 0) => Ok(None),
            (_, 0) => wrong(self.rate, rate, "if rate is set, burst must also be set"),
            (0, _) => wrong(self.burst, burst, "if burst is set, rate must also be set"),
            (1..8, _) => wrong(self.rate, rate, "must be at least 8 bits a second"),
            (_, 1..8) => wrong(self.burst, burst, "must be at least 8 bits"),
            (rate, burst) => match u32::try_from(burst / 8) {
                Ok(bytes) if bytes < u32::MAX => Ok(Some(bucket(rate / 8, bytes, latency))),
                _ => wrong(self.burst, burst, "burst cannot be more than 4GB"),
            },
        }
    }
}

/// The bucket of a rate in bytes a second and a burst in bytes, rounded as by the reference. It counts
/// a burst as the time that it takes at the rate, and knows none of over 274 seconds; such a burst is
/// as large as it can be.
fn bucket(rate: u64, burst: u32, latency: u64) -> TokenBucket {
    const NANOSECONDS: u128 = 1_000_000_000;
    let microseconds = u64::from(burst) * 1_000_000 / rate;
    let buffer = TokenBucket::ticks(microseconds.saturating_mul(1000));
    let most = u128::from(TokenBucket::nanoseconds(u32::MAX)) * u128::from(rate) / NANOSECONDS;
    let waiting = u128::from(rate) * u128::from(latency) / 1000;
    let limit = waiting + u128::from(burst).min(most);
    TokenBucket { rate, buffer, limit: u32::try_from(limit).unwrap_or(u32::MAX) }
}

/// `latency`: how long a packet may wait, in milliseconds.
fn latency(conf: &NetConf) -> Result<u64> {
    let latency = conf.get::<u64>("latency")?.unwrap_or(LATENCY);
    if (1..=LATENCY_MAX).contains(&latency) {
        return Ok(latency);
    }
    let reason = format!("must be 1 to {LATENCY_MAX} milliseconds");
    Err(Error::Config { key: "latency", value: latency.to_string(), reason })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn bits_become_the_buckets_of_the_reference() {
        let conf = parse(r#", "ingressRate": 8000000, "ingressBurst": 800000"#).unwrap();
        // 1 MB/s: 100 kB take 100 ms, which is 1,562,500 ticks, and 25 kB take 25 ms.
        let wanted = TokenBucket { rate: 1_000_000, buffer: 1_562_500, limit: 125_000 };
        assert_eq!(conf, Conf { ingress: Some(wanted), egress: None });
        let patient =
            parse(r#", "egressRate": 8000000, "egressBurst": 800000, "latency": 50"#).unwrap();
        let wanted = TokenBucket { limit: 150_000, ..wanted };
        assert_eq!(patient, Conf { ingress: None, egress: Some(wanted) });
    }

    /// What containerd asks for when a Pod's annotation names a rate: no limit of bursts.
    #[test]
    fn a_burst_without_end_is_as_large_as_the_kernel_counts() {
        let keys = r#", "runtimeConfig": {"bandwidth": {"ingressRate": 1000, "ingressBurst": 4294967294}}"#;
        let bucket = parse(keys).unwrap().ingress.unwrap();
        assert_eq!((bucket.rate, bucket.buffer), (125, u32::MAX));
        assert_eq!(bucket.limit, 274 * 125 + 109 + 3);
    }

    #[test]
    fn the_network_comes_before_the_runtime() {
        let runtime =
            r#", "runtimeConfig": {"bandwidth": {"egressRate": 8000, "egressBurst": 8000}}"#;
        let conf = parse(runtime).unwrap();
        assert_eq!((conf.ingress, conf.egress.unwrap().rate), (None, 1000));
        let own = r#", "IngressRate": 16000, "ingressBurst": 8000"#;
        let conf = parse(&format!("{own}{runtime}")).unwrap();
        assert_eq!((conf.ingress.unwrap().rate, conf.egress), (2000, None));
        let none = r#", "ingressRate": 0, "ingressBurst": 0"#;
        assert!(parse(&format!("{none}{runtime}")).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_by_key_and_value() {
        for (keys, words) in [
            (
                r#", "ingressRate": 8000"#,
                "ingressRate 8000: if rate is set, burst must also be set",
            ),
            (
                r#", "egressBurst": 8000"#,
                "egressBurst 8000: if burst is set, rate must also be set",
            ),
            (r#", "egressBurst": 8, "egressRate": 7"#, "egressRate 7"),
            (r#", "egressBurst": 7, "egressRate": 8"#, "egressBurst 7"),
            (r#", "egressBurst": 34359738360, "egressRate": 8"#, "more than 4GB"),
            (r#", "ingressRate": -1"#, "ingressRate"),
            (r#", "ingressRate": "1M""#, "ingressRate"),
            (r#", "latency": 0"#, "latency 0"),
            (r#", "runtimeConfig": {"bandwidth": {"ingressRate": 8000}}"#, "ingressRate 8000"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
