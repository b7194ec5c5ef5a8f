//! What runs in the Pods of the Kubernetes laboratory: one static program, since an image of busybox
//! has nothing that tells a caller the address it was seen with.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "who asks reads its output")]

use std::env;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use cbr0_tests::http;

/// Between the calls of one who never ends.
const PAUSE: Duration = Duration::from_millis(50);

const USAGE: &str = "lab-pod serve PORT | forward PORT HOST:PORT | get HOST:PORT COUNT | \
                     watch HOST:PORT | resolve NAME";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", port] => serve(port),
        ["forward", port, to] => forward(port, to),
        ["get", from, count] => get_often(from, count),
        ["watch", from] => watch(from),
        ["resolve", name] => resolve(name),
        _ => Err(io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "lab-pod: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is no such number")))
}

/// Answers with the Pod's name.
fn serve(port: &str) -> io::Result<()> {
    let name = std::fs::read_to_string("/etc/hostname")?;
    http::serve(&http::listen(number(port)?)?, name.trim());
    Ok(())
}

/// As an Ingress controller does with what comes to it, but for looking into it.
fn forward(port: &str, to: &str) -> io::Result<()> {
    for caller in http::listen(number(port)?)?.incoming() {
        let to = to.to_owned();
        thread::spawn(move || caller.and_then(|caller| splice(&caller, &http::connect(&to)?)));
    }
    Ok(())
}

fn splice(caller: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (caller.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut to).and(to.shutdown(Shutdown::Write)));
    io::copy(&mut &*server, &mut &*caller)?;
    caller.shutdown(Shutdown::Both)
}

fn tell(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Each over a connection of its own, and each answer on a line of its own.
fn get_often(from: &str, count: &str) -> io::Result<()> {
    (0..number::<u32>(count)?).try_for_each(|_| tell(&http::get(from)?))
}

/// Calls for ever, and writes a line for each call that fails, and for every twentieth that does not.
fn watch(from: &str) -> io::Result<()> {
    let mut answered: u64 = 0;
    loop {
        match http::get(from) {
            Ok(_) => {
                answered += 1;
                if answered % 20 == 1 {
                    tell(&format!("answered {answered}"))?;
                }
            }
            Err(error) => tell(&format!("lost after {answered}: {error}"))?,
        }
        thread::sleep(PAUSE);
    }
}

fn resolve(name: &str) -> io::Result<()> {
    let addresses = (name, 0).to_socket_addrs()?;
    let mut addresses: Vec<String> = addresses.map(|found| found.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.iter().try_for_each(|address| tell(address))
}
