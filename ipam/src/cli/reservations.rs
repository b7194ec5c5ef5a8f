//! The networks of a data directory, and what is reserved in them.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cni_conf::names::check_network_name;
use serde::Serialize;

use super::CliError;
use super::arguments::Place;
use crate::store::{Entry, Record, Store};

/// The first second of the year 10000, which RFC 3339 cannot write.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Reservation {
    pub(super) network: String,
    pub(super) address: IpAddr,
    /// Whose it is; absent where the file does not say.
    #[serde(rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub(super) container_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ifname: Option<String>,
    /// When its file was written, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    pub(super) state: State,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Of a container's interface.
    Held,
    /// Of a container: old versions did not note the interface.
    Legacy,
    /// Of nobody: it has no content, and counts as free.
    Empty,
    /// Not in the format of a reservation, or not readable.
    Foreign,
}

impl State {
    pub(super) fn note(self) -> &'static str {
        match self {
            Self::Held => "",
            Self::Legacy => "legacy: no interface noted",
            Self::Empty => "empty: counts as free",
            Self::Foreign => "foreign: no reservation, but in the way",
        }
    }
}

impl Reservation {
    /// What a file of the network says; `None` if its name is no address.
    pub(super) fn read(network: &str, entry: &Entry) -> Option<Self> {
        let (container_id, ifname, state) = match &entry.record {
            Record::Held(holder) => {
                let ifname = holder.ifname().to_owned();
                (Some(holder.container_id().to_owned()), Some(ifname), State::Held)
            }
            Record::Legacy(container_id) => (Some(container_id.clone()), None, State::Legacy),
            Record::Empty => (None, None, State::Empty),
            Record::Foreign => (None, None, State::Foreign),
        };
        Some(Self {
            network: network.to_owned(),
            address: entry.address?,
            container_id,
            ifname,
            since: since(&entry.path),
            state,
        })
    }

    /// Whose it is, in words.
    pub(super) fn holder(&self) -> String {
        match (&self.container_id, &self.ifname) {
            (Some(container), Some(ifname)) => format!("container {container}, interface {ifname}"),
            (Some(container), None) => format!("container {container}"),
            _ => "nobody".to_owned(),
        }
    }
}

fn since(path: &Path) -> Option<String> {
    time_text(path.symlink_metadata().ok()?.modified().ok()?)
}

fn time_text(time: SystemTime) -> Option<String> {
    let age = time.duration_since(UNIX_EPOCH).ok()?;
    (age < YEAR_10000).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

/// The stores that are meant, with the names of their networks, in the order of these.
///
/// Only folders with a lock count: the plugins make it before anything else, and a folder without
/// is somebody else's, in which none must be made.
pub(super) fn stores(place: &Place) -> Result<Vec<(String, Store)>, CliError> {
    let mut names = match &place.network {
        Some(name) => vec![name.clone()],
        None => folders(&place.data_dir)?,
    };
    names.retain(|name| place.data_dir.join(name).join("lock").is_file());
    names.sort();
    let store = |name: String| {
        let store = Store::new(&place.data_dir, &name);
        (name, store)
    };
    Ok(names.into_iter().map(store).collect())
}

fn folders(data_dir: &Path) -> Result<Vec<String>, CliError> {
    let failed = |source| CliError::Read {
        path: data_dir.to_owned(),
        source,
        remedy: "name the dataDir of the configuration with --data-dir, as root",
    };
    let entries = match std::fs::read_dir(data_dir) {
        // As on a node that had no containers yet.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: Vec<Option<String>> = names.collect::<Result<_, _>>().map_err(failed)?;
    Ok(names.into_iter().flatten().filter(|name| check_network_name(name).is_ok()).collect())
}

/// What to say where there is no network to look at.
pub(super) fn nothing_there(place: &Place) -> String {
    let of = place.network.as_ref().map(|name| format!(" of network {name}")).unwrap_or_default();
    format!(
        "{} has no reservations{of}; if there should be some, name the dataDir of the \
         configuration with --data-dir",
        place.data_dir.display()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_those_that_cannot_be_written_are_left_out() {
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(time_text(at(1_709_210_096)).as_deref(), Some("2024-02-29T12:34:56Z"));
        assert_eq!(time_text(UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(time_text(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(time_text(at(253_402_300_800)), None);
    }
}
