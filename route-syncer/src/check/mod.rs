//! `check`: what is wrong on this node, in words, each with its remedy.

mod conflist;

use kernel::Rtnl;

use crate::error::Error;
use crate::host::{HostSetting, Mode, Name, SettingState, Situation, legacy, settle};
use crate::masquerade;
use crate::observed::Observed;
use crate::run_dir::RunDir;
use crate::show::{self, Shown};
use crate::status::{RangeRow, Report, Row, State};

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
    wrong.extend(report.unreachable.iter().filter(|row| !row.state.is_ok()).map(range_remedy));
    wrong.extend(nameless(&report));
    wrong.extend(host(&report)?);
    wrong.extend(not_masquerading(&report)?);
    wrong.extend(conflist::wrong(&report));
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

/// A range of the cluster that is not unreachable as it should be, and what to do about it.
fn range_remedy(row: &RangeRow) -> String {
    let (words, cidr) = (row.words(), &row.cidr);
    match row.state {
        State::Conflict => format!(
            "{words}; somebody else's route is in its place: remove it if nobody needs it (ip route \
             show {cidr} tells it), or start the daemon with --cluster-unreachable=false"
        ),
        _ => format!("{words}; a running daemon tries again by itself, and logs why it cannot"),
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

/// What the host is not set to, as it is now. What is left alone is not looked at.
fn host(report: &Report) -> Result<Vec<String>, Error> {
    let observed = Observed::read(&mut Rtnl::open()?)?;
    let situation = Situation::of_report(report, &observed);
    let state_is = |state| move |setting: &&HostSetting| setting.state == state;
    let skipped = report.host_settings.iter().filter(state_is(SettingState::Skipped));
    let skipped: Vec<Name> = skipped.map(|setting| setting.name).collect();
    let settings = settle(&situation, &observed, &skipped, Mode::Look);
    let lacking = settings.iter().filter(state_is(SettingState::Lacking));
    let mut wrong: Vec<String> = lacking
        .map(|setting| format!("host setting {}: {}", setting.name, setting.words))
        .collect();
    if !skipped.contains(&Name::ForwardAccept) {
        wrong.extend(legacy::wrong());
    }
    Ok(wrong)
}

fn not_masquerading(report: &Report) -> kernel::Result<Option<String>> {
    let is_own = |row: &Row| row.node == report.node && row.state != State::Refused;
    let has_pods = report.routes.iter().any(is_own);
    let lacks = has_pods && !masquerade::is_there()?;
    Ok(lacks.then(|| {
        "the masquerade rules are gone or changed, so what Pods send out of the cluster gets no \
         answer; a running daemon writes them again at once"
            .to_owned()
    }))
}
