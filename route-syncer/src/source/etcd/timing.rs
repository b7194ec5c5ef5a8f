//! How patient this node is with etcd.

use std::time::Duration;

use clap::Args;

/// How patient this node is with etcd. A connection that dies without a word, since something on
/// the way swallows its packets, is given up within `ping` and `answer`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Timing {
    /// How long etcd may take to answer, before the next member is asked.
    #[arg(long = "etcd-timeout", value_name = "TIME", default_value = "5s", value_parser = time)]
    pub answer: Duration,

    /// How long a connection to etcd may be silent before it is tried. Etcd ends connections that
    /// are tried more often than every 5s, unless it is told otherwise.
    #[arg(long = "etcd-ping", value_name = "TIME", default_value = "30s", value_parser = time)]
    pub ping: Duration,

    /// How long to wait, at most, before an etcd that failed is connected to again; the first time
    /// it is a tenth of a second.
    #[arg(long = "etcd-retry", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub retry: Duration,
}

/// A number of seconds, or of milliseconds, with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let unit = |suffix, time: fn(u64) -> Duration| {
        text.strip_suffix(suffix).and_then(|number| number.parse().ok()).map(time)
    };
    let time = unit("ms", Duration::from_millis).or_else(|| unit("s", Duration::from_secs));
    let time = time.ok_or("write it like 5s or 300ms")?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&time) {
        Ok(time)
    } else {
        Err("it must be between 100ms and 3600s".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(time("300ms"), Ok(Duration::from_millis(300)));
        for text in ["", "5", "s", "99ms", "0s", "3601s", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
