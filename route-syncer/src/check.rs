//! `check`: what is wrong on this node, in words, each with its remedy.

use kernel::sysctl::SysctlError;

use crate::error::Error;
use crate::forwarding::{self, Families};
use crate::masquerade;
use crate::run_dir::RunDir;
use crate::show::{self, Shown};
use crate::status::{Report, Row, State};

/// What is wrong; nothing if all is well.
///
/// # Errors
/// That cannot be told.
pub fn check(run_dir: &RunDir) -> Result<Vec<String>, Error> {
    let Shown { running, report } = show::ask(run_dir)?;
    let mut wrong = Vec::new();
    if !running {
        wrong.push("the daemon is not running, nothing repairs the routes; start it".to_owned());
    }
    if let Some(words) = &report.source_error {
        let since = report.source_error_since.as_deref().unwrap_or("it started");
        wrong.push(format!("the source is broken since {since}: {words}"));
    }
    wrong.extend(report.problems.iter().cloned());
    wrong.extend(report.routes.iter().filter(|row| !row.state.is_ok()).map(remedy));
    wrong.extend(nameless(&report));
    wrong.extend(not_forwarding(&report)?);
    wrong.extend(not_masquerading(&report)?);
    Ok(wrong)
}

/// A row that is not as it should be, and what to do about it.
fn remedy(row: &Row) -> String {
    let (words, node) = (row.words(), &row.node);
    let via = row.via.map_or_else(|| "its node".to_owned(), |via| via.to_string());
    match row.state {
        State::Ok | State::Own => words,
        State::Missing => {
            format!("{words}; a running daemon tries again by itself, and logs why it cannot")
        }
        State::Conflict => format!(
            "{words}; somebody else's route is in its place: remove it if nobody needs it (ip route \
             show {} tells it)",
            row.pod_cidr
        ),
        State::OffLink => format!(
            "{words}; no link that is up leads to {via}: bring it up, give this node an address \
             in that network, or start all nodes with --off-link vxlan"
        ),
        State::Refused => format!("{words}; correct what the source says of {node}"),
        State::Held => format!(
            "{words}; the source no longer names {node}: bring it back, or if it is gone for good \
             say so (with etcd: route-syncer forget {node}; in a file: remove nodes in smaller steps)"
        ),
    }
}

/// Without a range of its own, a node knows none of its Pods. The source may have said why.
fn nameless(report: &Report) -> Option<String> {
    let node = &report.node;
    let is_named = report.routes.iter().any(|row| row.node == *node);
    (!is_named && report.problems.is_empty()).then(|| {
        format!(
            "the source gives this node, {node:?}, no Pod range, so nothing of its Pods is \
             masqueraded; add it there, or give the name it has there with --node"
        )
    })
}

fn not_forwarding(report: &Report) -> Result<Vec<String>, SysctlError> {
    let mut families = Families::default();
    for row in report.routes.iter().filter(|row| row.state != State::Refused) {
        families.ipv6 |= row.pod_cidr.contains(':');
        families.ipv4 |= !row.pod_cidr.contains(':');
    }
    let words = |key: &str| {
        let key = key.replace('/', ".");
        format!("{key} is 0, so packets of Pods are dropped; turn it on: sysctl -w {key}=1")
    };
    Ok(forwarding::lacking(families)?.into_iter().map(words).collect())
}

fn not_masquerading(report: &Report) -> kernel::Result<Option<String>> {
    let is_own = |row: &Row| row.node == report.node && row.state != State::Refused;
    let has_pods = report.routes.iter().any(is_own);
    let lacks = has_pods && !masquerade::is_there()?;
    Ok(lacks.then(|| {
        "the masquerade rules are gone or changed, so what Pods send out of the cluster gets no \
         answer; a running daemon writes them again within a minute, a restart does so at once"
            .to_owned()
    }))
}
