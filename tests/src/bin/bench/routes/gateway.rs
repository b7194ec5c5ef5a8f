//! etcd by HTTP and JSON, which it speaks beside gRPC: enough to write keys and to watch them with
//! nothing but a socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use kernel::NetNs;
use serde_json::{Value, json};

/// An answer that does not come in this time never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, used for one request after the other.
pub(crate) struct Gateway {
    stream: BufReader<TcpStream>,
}

/// Keys and values as JSON has them.
pub(crate) fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// A put, as a part of a transaction.
pub(crate) fn put(key: &str, value: &str) -> Value {
    json!({"requestPut": {"key": encoded(key), "value": encoded(value)}})
}

/// A deletion, as a part of a transaction.
pub(crate) fn delete(key: &str) -> Value {
    json!({"requestDeleteRange": {"key": encoded(key)}})
}

/// All keys that begin so.
pub(crate) fn prefix(prefix: &str) -> Value {
    // The end of the range is the prefix with its last byte raised, here a slash.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    json!({"key": encoded(prefix), "range_end": encoded(&end)})
}

impl Gateway {
    /// Connects from inside a namespace.
    pub(crate) fn connect(from: &NetNs, to: SocketAddr) -> Result<Self> {
        let what = || format!("connect to etcd at {to}");
        let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE))?.context(what)?;
        stream.set_read_timeout(Some(PATIENCE)).context(what)?;
        stream.set_nodelay(true).context(what)?;
        Ok(Gateway { stream: BufReader::new(stream) })
    }

    /// Does all of it at one revision.
    pub(crate) fn transaction(&mut self, parts: &[Value]) -> Result<()> {
        self.post("kv/txn", &json!({"success": parts})).map(drop)
    }

    /// Sends a request, and returns the answer's bytes.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Vec<u8>> {
        self.send("POST", &format!("/v3/{path}"), &body.to_string())?;
        self.answer()
    }

    /// What etcd counts.
    pub(crate) fn metrics(&mut self) -> Result<String> {
        self.send("GET", "/metrics", "")?;
        Ok(String::from_utf8_lossy(&self.answer()?).into_owned())
    }

    /// Watches all keys that begin so, and gives the stream of JSON lines away once that has begun.
    pub(crate) fn watch(mut self, keys: &str) -> Result<BufReader<TcpStream>> {
        self.send("POST", "/v3/watch", &json!({"create_request": prefix(keys)}).to_string())?;
        self.header()?;
        let mut line = String::new();
        while !line.contains("\"created\":true") {
            line.clear();
            let read = self.stream.read_line(&mut line).context(|| "watch etcd".to_owned())?;
            if read == 0 {
                return Err(LabError::Wrong("etcd ended a watch that had not begun".to_owned()));
            }
        }
        Ok(self.stream)
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let what = || format!("ask etcd for {path}");
        self.stream.get_mut().write_all(request.as_bytes()).context(what)
    }

    fn answer(&mut self) -> Result<Vec<u8>> {
        let (is_ok, length) = self.header()?;
        let body = match length {
            Some(length) => self.read(length)?,
            None => self.chunks()?,
        };
        if is_ok {
            return Ok(body);
        }
        Err(LabError::Wrong(format!("etcd refuses: {}", String::from_utf8_lossy(&body))))
    }

    /// Whether all is well, and the length of the body; without, it comes in chunks.
    fn header(&mut self) -> Result<(bool, Option<usize>)> {
        let is_ok = self.line()?.contains(" 200 ");
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((is_ok, length));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let length = usize::from_str_radix(&size, 16)
                .map_err(|_| LabError::Wrong(format!("etcd sends a chunk of size {size:?}")))?;
            body.extend(self.read(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context(|| "read etcd's answer".to_owned())?;
        if read == 0 {
            return Err(LabError::Wrong("etcd has closed the connection".to_owned()));
        }
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context(|| "read etcd's answer".to_owned())?;
        Ok(bytes)
    }
}
