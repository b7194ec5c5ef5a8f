//! The program `route-syncer`.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use route_syncer::cli::{Cli, Command, Run, SourceKind, Status};
use route_syncer::error::Error;
use route_syncer::reconcile::Settings;
use route_syncer::run_dir::RunDir;
use route_syncer::source::file::NodesFile;
use route_syncer::{daemon, show};
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// `status` cannot tell.
const UNKNOWN: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        Command::Run(options) => match run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                error!("{problem}");
                ExitCode::FAILURE
            }
        },
        Command::Status(options) => status(&options).unwrap_or_else(|problem| {
            error!("{problem}");
            ExitCode::from(UNKNOWN)
        }),
    }
}

fn run(options: Run) -> Result<(), Error> {
    let node = match options.node {
        Some(node) => node,
        None => nix::unistd::gethostname().map_err(Error::Hostname)?.to_string_lossy().into(),
    };
    let settings = Settings {
        node,
        cluster_cidrs: options.cluster_cidrs,
        service_cidrs: options.service_cidrs,
        protocol: options.protocol,
        run_dir: options.run_dir,
        conflist: options.conflist,
        subnet_env: options.subnet_env,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::Start)?.block_on(async {
        match options.source {
            SourceKind::File => {
                // clap insists on the path with this source.
                let source = NodesFile::open(&options.nodes_file.unwrap_or_default())?;
                daemon::run(source, settings).await
            }
        }
    })
}

fn status(options: &Status) -> Result<ExitCode, Error> {
    let shown = show::ask(&RunDir::new(&options.run_dir))?;
    let text = if options.json {
        serde_json::to_string_pretty(&shown).map_err(Error::Render)? + "\n"
    } else {
        shown.table()
    };
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
