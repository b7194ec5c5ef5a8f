//! The program `route-syncer`.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use route_syncer::cli::{
    Check, Cleanup, Cli, Command, Daemon, Forget, Install, Leave, Run, SourceKind, Status,
    Uninstall,
};
use route_syncer::error::Error;
use route_syncer::run_dir::RunDir;
use route_syncer::settings::Settings;
use route_syncer::show::watch::{self, Form};
use route_syncer::source::etcd::client::Connection;
use route_syncer::source::etcd::identity::identify;
use route_syncer::source::etcd::keeper::Keeper;
use route_syncer::source::etcd::options::EtcdOptions;
use route_syncer::source::etcd::state::StateFile;
use route_syncer::source::etcd::{EtcdSource, farewell};
use route_syncer::source::file::NodesFile;
use route_syncer::source::kubernetes::KubernetesNodes;
use route_syncer::source::kubernetes::access::Access;
use route_syncer::source::{Source, SourceError};
use route_syncer::{check, cleanup, cli, daemon, install, memory, preview, privileges, show};
use tokio::runtime::Runtime;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The allocator of musl asks the kernel for nearly every list that it gives out, and again when that
/// is given back: with it, most of a sync's system calls were `mmap` and `munmap`.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// It cannot be told.
const UNKNOWN: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        Command::Run(options) => exit_code(run(options)),
        Command::Leave(options) => exit_code(leave(&options)),
        Command::Forget(options) => exit_code(forget(&options)),
        Command::Diff(options) => answer(diff(options)),
        Command::Status(options) => answer(status(&options)),
        Command::Check(options) => answer(check(&options)),
        Command::Cleanup(options) => {
            cleanup(&options).unwrap_or_else(|problem| exit_code(Err(problem)))
        }
        Command::Install(options) => exit_code(install(options)),
        Command::Uninstall(options) => exit_code(uninstall(&options)),
    }
}

fn exit_code(result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a question.
fn answer(result: Result<ExitCode, Error>) -> ExitCode {
    result.unwrap_or_else(|problem| {
        error!("{problem}");
        ExitCode::from(UNKNOWN)
    })
}

fn run(options: Run) -> Result<(), Error> {
    let Run { daemon: options, dry_run } = options;
    let settings = settings(&options)?;
    if !dry_run {
        // Before there are threads, which have capabilities of their own.
        privileges::keep_what_is_needed()?;
    }
    runtime()?.block_on(async {
        match options.source {
            SourceKind::File => serve(nodes_file(options)?, settings, dry_run).await,
            SourceKind::Etcd => {
                serve(leases(&options, &settings, dry_run)?, settings, dry_run).await
            }
            SourceKind::Kubernetes => serve(node_objects(&options), settings, dry_run).await,
        }
    })
}

async fn serve(source: impl Source, settings: Settings, dry_run: bool) -> Result<(), Error> {
    if dry_run {
        preview::follow(source, settings, &mut std::io::stdout()).await
    } else {
        daemon::run(source, settings).await
    }
}

fn diff(options: Daemon) -> Result<ExitCode, Error> {
    let settings = settings(&options)?;
    let commands = runtime()?.block_on(async {
        match options.source {
            SourceKind::File => preview::difference(nodes_file(options)?, settings).await,
            SourceKind::Etcd => {
                preview::difference(leases(&options, &settings, true)?, settings).await
            }
            SourceKind::Kubernetes => preview::difference(node_objects(&options), settings).await,
        }
    })?;
    if commands.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(&commands);
    Ok(ExitCode::FAILURE)
}

fn settings(options: &Daemon) -> Result<Settings, Error> {
    let (mut name, mut memory) = (options.node.clone(), None);
    if options.source == SourceKind::Kubernetes {
        // As kubelets take it.
        name = Some(name.map_or_else(|| node_name(None).map(|name| name.to_lowercase()), Ok)?);
        memory = Some(options.etcd.state_dir.join(memory::KUBERNETES));
    }
    Ok(Settings {
        node: node_name(name)?,
        cluster_cidrs: options.cluster_cidrs.clone(),
        service_cidrs: options.service_cidrs.clone(),
        max_routes: options.max_routes,
        protocol: options.protocol,
        off_link: options.off_link.off_link,
        unreachable: options.unreachable,
        run_dir: options.run_dir.clone(),
        memory,
        mtu: options.mtu,
        conflist: options.conflist.clone(),
        subnet_env: options.subnet_env.clone(),
        host: options.host.clone(),
        serve: options.serve.clone(),
    })
}

fn nodes_file(options: Daemon) -> Result<NodesFile, Error> {
    // clap insists on the path with this source.
    Ok(NodesFile::open(&options.nodes_file.unwrap_or_default())?)
}

fn node_objects(options: &Daemon) -> KubernetesNodes {
    KubernetesNodes::start(Access::new(&options.kubernetes))
}

/// The source of leases. One that only looks on writes neither to etcd nor to the state file.
fn leases(options: &Daemon, settings: &Settings, looks_on: bool) -> Result<EtcdSource, Error> {
    let own = identify(&settings.node, &options.etcd)?.reached(settings.off_link);
    let (connection, file) = etcd(&options.etcd)?;
    let state = file.read()?;
    let keeper = Keeper::new(connection, own, options.lease_ttl, file, state);
    Ok(EtcdSource::start(if looks_on { keeper.looking_on() } else { keeper }))
}

fn leave(options: &Leave) -> Result<(), Error> {
    let own = identify(&node_name(options.node.clone())?, &options.etcd)?;
    let (connection, file) = etcd(&options.etcd)?;
    let run_dir = RunDir::new(&options.run_dir);
    // With the lock, no daemon starts from the memory that is about to change.
    let lock = if run_dir.is_locked()? { None } else { Some(run_dir.lock()?) };
    say(&runtime()?.block_on(farewell::leave(&connection, &own))?);
    say(&match lock {
        Some(_lock) => {
            let mut done = vec![farewell::forget_own_subnet(&file)?];
            done.extend(cleanup::remove_unreachable(&run_dir, cli::PROTOCOL)?);
            done
        }
        None => {
            vec!["the daemon goes on here and joins again only when it is started again".to_owned()]
        }
    });
    Ok(())
}

fn forget(options: &Forget) -> Result<(), Error> {
    let own = node_name(options.node.clone())?;
    let (connection, file) = etcd(&options.etcd)?;
    let state = file.read()?;
    let done = farewell::forget(&connection, &options.gone, &own, &state);
    say(&runtime()?.block_on(done)?);
    Ok(())
}

fn node_name(given: Option<String>) -> Result<String, Error> {
    match given {
        Some(name) => Ok(name),
        None => Ok(nix::unistd::gethostname().map_err(Error::Hostname)?.to_string_lossy().into()),
    }
}

fn etcd(options: &EtcdOptions) -> Result<(Connection, StateFile), Error> {
    let connection = Connection::new(options).map_err(SourceError::Etcd)?;
    let file = StateFile::new(&options.state_dir, &connection.layout.prefix);
    Ok((connection, file))
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)
}

/// Tells what was done.
fn say(lines: &[String]) {
    // Whoever closed the pipe has read enough.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
}

fn status(options: &Status) -> Result<ExitCode, Error> {
    let run_dir = RunDir::new(&options.run_dir);
    if options.watch {
        let form = if options.json { Form::Json } else { Form::Table };
        let mut out = std::io::stdout();
        let followed = watch::follow(&run_dir, form, &mut out);
        return runtime()?.block_on(followed).map(|()| ExitCode::SUCCESS);
    }
    let shown = show::ask(&run_dir)?;
    let text = if options.json {
        serde_json::to_string_pretty(&shown).map_err(Error::Render)? + "\n"
    } else {
        shown.table()
    };
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(options: &Check) -> Result<ExitCode, Error> {
    let wrong = check::check(&RunDir::new(&options.run_dir))?;
    if wrong.is_empty() {
        say(&["nothing is wrong".to_owned()]);
        return Ok(ExitCode::SUCCESS);
    }
    say(&wrong);
    Ok(ExitCode::FAILURE)
}

fn cleanup(options: &Cleanup) -> Result<ExitCode, Error> {
    let Cleanup { run_dir, state_dir, protocol } = options;
    let done = cleanup::cleanup(&RunDir::new(run_dir), state_dir, *protocol, cli::PROTOCOL)?;
    say(&if done.words.is_empty() { vec!["nothing was removed".to_owned()] } else { done.words });
    Ok(if done.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install(options: Install) -> Result<(), Error> {
    let Install { bin_dir, from, dry_run } = options;
    Ok(install::install(&bin_dir, from, dry_run, &mut std::io::stdout())?)
}

fn uninstall(options: &Uninstall) -> Result<(), Error> {
    let Uninstall { bin_dir, conflist, dry_run } = options;
    Ok(install::uninstall(bin_dir, conflist.as_deref(), *dry_run, &mut std::io::stdout())?)
}
