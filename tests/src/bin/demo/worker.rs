//! The process that does the work: the demo's story, from the first namespace to the last call.

use std::process::ExitCode;

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::lab::{Lab, Source};
use crate::member::start_syncers;
use crate::{Cli, Command, Plan, breaking, change, show, state};

/// Does what the supervisor was asked for.
pub(crate) fn run(supervisor: i32, asked: Cli) -> Result<ExitCode> {
    end_with(supervisor)?;
    state::record_worker()?;
    match asked.command {
        None => build(asked.plan),
        Some(Command::Join) => change::join(),
        Some(Command::Break) => breaking::run(),
        Some(Command::Leave { node }) => change::leave(node.as_deref()),
        Some(_) => Err(LabError::Wrong("that needs no worker".to_owned())),
    }
}

/// Builds the network, shows it, and proves it.
fn build(plan: Plan) -> Result<ExitCode> {
    let mut lab = Lab::build(plan)?;
    println!("{} nodes on one switch, a router, and the outside behind it.", lab.members.len());
    if lab.off_link.is_some() {
        println!("The last of them is behind the router, and reached through a VXLAN tunnel.");
    }
    match lab.source {
        Source::File => lab.write_nodes(None)?,
        Source::Etcd => {
            lab.start_etcd()?;
            println!("An etcd on the switch, where every node leases its Pod range.");
        }
    }
    start_syncers(&lab.members, &lab.facts(), lab.options())?;
    println!("Every node's route syncer has synced.\n");

    lab.members.iter_mut().try_for_each(|member| member.add_pods(plan.pods))?;
    show::pods(&lab.members);
    lab.wait_for_routes(None)?;
    show::routes(&lab.members)?;
    lab.save()?;
    if !show::matrix(&lab)? {
        return Ok(ExitCode::FAILURE);
    }
    if plan.keep {
        println!(
            "\nIt stays, for: scripts/demo status | exec node1 -- ip route | join | leave | break | down"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets this process die with its supervisor, which could not clean up after it any more.
fn end_with(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .context(|| "tie the worker to its supervisor".to_owned())?;
    // The supervisor's mask is inherited, and would be by all that is started here.
    SigSet::empty().thread_set_mask().context(|| "unblock signals".to_owned())?;
    // The supervisor may have died before all that.
    if getppid().as_raw() == supervisor {
        Ok(())
    } else {
        Err(LabError::Wrong("the demo's supervisor is gone".to_owned()))
    }
}
