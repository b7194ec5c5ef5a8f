//! The floor: what any plugin of this kind must ask of the kernel, and nothing else.
//!
//! The bench runs it beside the plugins, so that their times can be told from the kernel's. It
//! shares no code with them and does one fixed thing: the requests and file operations that the
//! invariants of `docs/design.md` need, as [`attach`], [`point`], [`detach`] and [`reservation`] write
//! them down, as many as `counts.rs` says. It parses no configuration and undoes nothing: what it does not do is
//! what the difference to a plugin pays for.
//!
//! It is called as a plugin is, with the name of the one it stands for, `bridge`, `ptp` or `host-local`, as
//! its argument, and is told in its environment what plugins are told in their configuration.
#![forbid(unsafe_code)]

mod attach;
mod detach;
mod masquerade;
mod netlink;
mod point;
mod reservation;

use std::env;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use reservation::Reservations;

/// What went wrong, in words: nobody handles it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What it was called for.
struct Job {
    container_id: String,
    netns: PathBuf,
    /// The folder of the network's reservations.
    reservations: PathBuf,
    /// Whether the container gets an IPv6 address, too.
    dual_stack: bool,
    /// Whether what it sends out of the network is masqueraded.
    masquerade: bool,
}

impl Job {
    fn from_env() -> Result<Job> {
        let given = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
        Ok(Job {
            container_id: env::var("CNI_CONTAINERID")?,
            netns: env::var("CNI_NETNS")?.into(),
            reservations: env::var("FLOOR_RESERVATIONS")?.into(),
            dual_stack: given("FLOOR_DUAL_STACK"),
            masquerade: given("FLOOR_MASQUERADE"),
        })
    }

    /// What a reservation says of its owner.
    fn owner(&self) -> String {
        format!("{}\r\neth0", self.container_id)
    }

    /// The name of the host's end, which is the owner's mark from its first instant.
    fn host_end(&self) -> String {
        format!("veth{:011x}", self.number() & 0xfff_ffff_ffff)
    }

    /// A number of the owner's own (FNV-1a).
    fn number(&self) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        self.container_id.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may read it, which changes nothing.
            let _ = writeln!(io::stdout(), "{{\"code\": 100, \"msg\": \"floor: {error}\"}}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // A runtime writes the configuration there, and may wait until it is read.
    io::stdin().read_to_end(&mut Vec::new())?;
    let job = Job::from_env()?;
    let plugin = env::args().nth(1).unwrap_or_default();
    let verb = env::var("CNI_COMMAND")?;
    match (plugin.as_str(), verb.as_str()) {
        ("bridge", "ADD") => attach::attach(&job)?,
        ("ptp", "ADD") => point::attach(&job)?,
        ("bridge" | "ptp", "DEL") => detach::detach(&job)?,
        ("host-local", "ADD") => drop(Reservations::lock(&job)?.reserve(&job)?),
        ("host-local", "DEL") => drop(Reservations::lock(&job)?.release(&job)?),
        _ => return Err(format!("no floor is known for {verb} of {plugin:?}").into()),
    }
    if verb == "ADD" {
        io::stdout().write_all(RESULT)?;
    }
    Ok(())
}

/// About as long as a plugin's.
const RESULT: &[u8] = br#"{
    "cniVersion": "1.0.0",
    "interfaces": [
        { "name": "cbr0", "mac": "0a:58:0a:58:00:01" },
        { "name": "veth00000000000", "mac": "0a:00:00:00:00:01" },
        { "name": "eth0", "mac": "0a:58:0a:58:00:02", "sandbox": "/run/netns/pod" }
    ],
    "ips": [
        { "interface": 2, "address": "10.88.0.2/16", "gateway": "10.88.0.1" }
    ],
    "routes": [
        { "dst": "0.0.0.0/0", "gw": "10.88.0.1" }
    ]
}
"#;
