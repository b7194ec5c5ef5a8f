//! The arguments, checked. Pure.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use cni_conf::json;
use cni_conf::names::check_network_name;
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};

use super::CliError;
use crate::store::DEFAULT_DATA_DIR;

/// Where container runtimes look for network configurations.
const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Ls(Ls),
    Stats(Stats),
    Free(Free),
}

/// Which reservations are meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    /// A checked name; `None` for all networks.
    pub(super) network: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ls {
    pub(super) place: Place,
    pub(super) json: bool,
}

/// Which configurations are meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Folder(PathBuf),
    File(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) source: Source,
    pub(super) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) place: Place,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

impl From<lexopt::Error> for CliError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Everything that an option can say; a command takes out what it knows.
#[derive(Default)]
struct Options {
    data_dir: Option<PathBuf>,
    network: Option<String>,
    conf_dir: Option<PathBuf>,
    conf: Option<PathBuf>,
    dry_run: bool,
    json: bool,
    help: bool,
    words: Vec<OsString>,
}

pub(super) fn parse(arguments: Vec<OsString>) -> Result<Command, CliError> {
    let mut parser = Parser::from_args(arguments);
    let command = match parser.next()? {
        Some(Value(word)) => word.string()?,
        Some(Long("help") | Short('h')) => return Ok(Command::Help),
        Some(option) => return Err(option.unexpected().into()),
        None => return Ok(Command::Help),
    };
    let known: &[&str] = match command.as_str() {
        "help" => return Ok(Command::Help),
        "ls" => &["data-dir", "network", "json"],
        "stats" => &["conf-dir", "conf", "json"],
        "free" => &["data-dir", "network", "dry-run", "json"],
        other => return Err(CliError::Usage(format!("there is no command {other:?}"))),
    };
    let options = options(&mut parser, known)?;
    if options.help {
        return Ok(Command::Help);
    }
    match command.as_str() {
        "ls" => ls(options).map(Command::Ls),
        "stats" => stats(options).map(Command::Stats),
        _ => free(options).map(Command::Free),
    }
}

/// Reads what is behind the command; an option that is not `known` is refused.
fn options(parser: &mut Parser, known: &[&str]) -> Result<Options, CliError> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => options.help = true,
            Long(name) if !known.contains(&name) => return Err(argument.unexpected().into()),
            Long("json") => options.json = true,
            Long("dry-run") => options.dry_run = true,
            Long("data-dir") => options.data_dir = Some(parser.value()?.into()),
            Long("network") => options.network = Some(network(parser.value()?)?),
            Long("conf-dir") => options.conf_dir = Some(parser.value()?.into()),
            Long("conf") => options.conf = Some(parser.value()?.into()),
            Value(word) => options.words.push(word),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn ls(options: Options) -> Result<Ls, CliError> {
    no_words(&options)?;
    Ok(Ls { json: options.json, place: place(options) })
}

fn stats(options: Options) -> Result<Stats, CliError> {
    no_words(&options)?;
    let source = match (options.conf, options.conf_dir) {
        (Some(_), Some(_)) => {
            return Err(CliError::Usage("--conf and --conf-dir exclude each other".into()));
        }
        (Some(file), None) => Source::File(file),
        (None, folder) => Source::Folder(folder.unwrap_or_else(|| DEFAULT_CONF_DIR.into())),
    };
    Ok(Stats { source, json: options.json })
}

fn free(mut options: Options) -> Result<Free, CliError> {
    let words = std::mem::take(&mut options.words);
    let addresses = words.into_iter().map(address).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(CliError::Usage("free needs the addresses to free".into()));
    }
    let (dry_run, json) = (options.dry_run, options.json);
    Ok(Free { addresses, place: place(options), dry_run, json })
}

fn place(options: Options) -> Place {
    let data_dir = options.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into());
    Place { data_dir, network: options.network }
}

fn no_words(options: &Options) -> Result<(), CliError> {
    match options.words.first() {
        Some(word) => Err(CliError::Usage(format!("{word:?} is one argument too many"))),
        None => Ok(()),
    }
}

/// A network's name is that of a folder in the data directory, and must not lead out of it.
fn network(value: OsString) -> Result<String, CliError> {
    let name = value.string()?;
    check_network_name(&name).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(name)
}

fn address(value: OsString) -> Result<IpAddr, CliError> {
    json::ip(&value.string()?).map_err(|error| CliError::Usage(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, CliError> {
        super::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn defaults_are_the_usual_places() {
        let place = || Place { data_dir: "/var/lib/cni/networks".into(), network: None };
        assert_eq!(parse("ls").unwrap(), Command::Ls(Ls { place: place(), json: false }));
        let source = Source::Folder("/etc/cni/net.d".into());
        assert_eq!(parse("stats").unwrap(), Command::Stats(Stats { source, json: false }));
        let addresses = vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let free = Free { addresses, place: place(), dry_run: true, json: false };
        assert_eq!(parse("free 10.0.0.1 --dry-run 2001:db8::1").unwrap(), Command::Free(free));
    }

    #[test]
    fn options_may_stand_anywhere_behind_the_command() {
        let place = Place { data_dir: "/x".into(), network: Some("net".into()) };
        let expected = Command::Ls(Ls { place, json: true });
        assert_eq!(parse("ls --json --data-dir /x --network net").unwrap(), expected);
        assert_eq!(parse("ls --network=net --data-dir=/x --json").unwrap(), expected);
        let source = Source::File("/y".into());
        let expected = Command::Stats(Stats { source, json: false });
        assert_eq!(parse("stats --conf /y").unwrap(), expected);
    }

    #[test]
    fn help_is_never_refused() {
        for line in ["--help", "-h", "help", "ls --help", "free -h", "stats --json --help"] {
            assert_eq!(parse(line).unwrap(), Command::Help, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_remedy() {
        for (line, words) in [
            ("list", "there is no command \"list\""),
            ("--json", "--json"),
            ("ls --conf x", "--conf"),
            ("ls more", "\"more\" is one argument too many"),
            ("stats more", "\"more\" is one argument too many"),
            ("stats --conf a --conf-dir b", "exclude each other"),
            ("free", "needs the addresses"),
            ("free 10.0.0", "invalid IP address: 10.0.0"),
            ("free 10.0.0.1/24", "invalid IP address: 10.0.0.1/24"),
            ("free 10.0.0.1 --network ../x", "\"../x\""),
            ("ls --network ..", "\"..\""),
            ("ls --data-dir", "--data-dir"),
            ("ls --json=yes", "--json"),
        ] {
            let error = parse(line).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.code(), 2, "{line}: {text}");
            assert!(text.contains(words) && text.contains("--help"), "{line}: {text}");
        }
    }
}
