//! As much of HTTP as probes between Pods need: who answers, and as whom the caller is seen.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::thread;
use std::time::Duration;

/// Who does not answer within this time is not reached.
const DEADLINE: Duration = Duration::from_secs(5);

/// Listens on a port of every address, of both families.
///
/// # Errors
/// Somebody else does.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
}

/// Answers each request with a line, for ever: this name, and the address that the caller is seen
/// with.
pub fn serve(listener: &TcpListener, name: &str) {
    for caller in listener.incoming() {
        let name = name.to_owned();
        // A caller that goes away is its own affair.
        thread::spawn(move || caller.and_then(|caller| answer(caller, &name)));
    }
}

fn answer(mut caller: TcpStream, name: &str) -> io::Result<()> {
    let from = caller.peer_addr()?.ip().to_canonical();
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match caller.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    let body = format!("{name} {from}\n");
    write!(caller, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Connects to `HOST:PORT`, at the first of its addresses that takes it.
///
/// # Errors
/// None does in time, or the host has no address.
pub fn connect(to: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("{to} has no address"));
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(DEADLINE))?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// The line that the server at `HOST:PORT` answers with.
///
/// # Errors
/// It cannot be reached, or does not answer in time.
pub fn get(from: &str) -> io::Result<String> {
    let mut stream = connect(from)?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {from}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.ok_or_else(|| io::Error::other(format!("{from} answers {answer:?}")))
}
