//! What the metrics tell of a lease.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cbr0_tests::Outcome;

use crate::fixture::Lab;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_metrics_tell_how_long_the_lease_holds() -> Outcome {
    const ADDRESS: &str = "127.0.0.1:9218";
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let _first = lab.start_with(1, &["--lease-ttl", "24h", "--metrics-listen", ADDRESS])?;
    lab.wait_for_rows(1, &["node1 own"])?;
    let ask = || {
        let mut stream = TcpStream::connect(ADDRESS).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    // The first sign of life may come after the status.
    let end = Instant::now() + PATIENCE;
    loop {
        let text = lab.node(1).netns().run(ask)?;
        let line = text.lines().find_map(|line| line.strip_prefix("cbr0_lease_ttl_seconds "));
        if let Some(left) = line {
            let left: f64 = left.parse().unwrap();
            assert!((80_000.0..=86_400.0).contains(&left), "{left}");
            return Ok(());
        }
        assert!(Instant::now() < end, "{text}");
    }
}
