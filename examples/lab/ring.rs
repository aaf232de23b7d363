//! The check of the links: each node sends to the next one by plain TCP; every one must get its rate.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::net;
use crate::options::Rate;
use crate::place::Place;
use crate::say;

const PORT: u16 = 5001;
/// The shaper lets its burst through at first.
const SETTLES: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(2);

/// TCP carries 95.6 % at best; below this the shaper or the machine is in the way.
const ENOUGH: f64 = 0.95;

/// Fails when a node gets less than 95 % of the rate in bodies.
pub(crate) fn check(nodes: usize, rate: Rate) -> Result<()> {
    if nodes < 2 {
        return Ok(());
    }
    let receivers: Vec<_> = (0..nodes)
        .map(|node| {
            let listener = net::inside(Place::Node(node).namespace(), move || {
                Ok(TcpListener::bind(Place::Node(node).port(PORT))?)
            })?;
            Ok(std::thread::spawn(move || receive(&listener)))
        })
        .collect::<Result<_>>()?;
    let senders: Vec<_> = (0..nodes)
        .map(|node| {
            let next = Place::Node((node + 1) % nodes);
            net::thread(Place::Node(node).namespace(), move || send(next))
        })
        .collect();
    let mut shares = Vec::new();
    for receiver in receivers {
        let bytes = receiver
            .join()
            .map_err(|_| anyhow!("a receiver panicked"))?;
        shares.push(bytes? * 8.0 / rate.0 as f64);
    }
    for sender in senders {
        sender
            .join()
            .map_err(|_| anyhow!("a sender panicked"))???;
    }
    shares.sort_by(f64::total_cmp);
    let (worst, best) = (shares[0] * 100.0, shares[shares.len() - 1] * 100.0);
    say(format!(
        "links of {rate} carry {worst:.1} % to {best:.1} % in a ring of {nodes}"
    ));
    ensure!(
        worst >= ENOUGH * 100.0,
        "the links do not give {} % of {rate}: the machine is too slow or too busy for this lab",
        ENOUGH * 100.0
    );
    Ok(())
}

fn send(to: Place) -> Result<()> {
    let mut socket = TcpStream::connect(to.port(PORT)).context("connecting in the ring")?;
    let bytes = vec![0x5a; 256 << 10];
    let end = Instant::now() + SETTLES + MEASURED + SETTLES;
    while Instant::now() < end {
        match socket.write_all(&bytes) {
            Ok(()) => {}
            // The receiver has seen enough.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Bytes per second.
fn receive(listener: &TcpListener) -> Result<f64> {
    let (mut socket, _) = listener.accept()?;
    let mut buffer = vec![0; 256 << 10];
    let begin = Instant::now() + SETTLES;
    let mut bytes = 0;
    let mut first = begin;
    loop {
        let read = socket.read(&mut buffer)?;
        ensure!(read > 0, "the sender ended early");
        let now = Instant::now();
        if now < begin {
            first = now;
            continue;
        }
        bytes += read;
        if now - begin >= MEASURED {
            return Ok(bytes as f64 / (now - first).as_secs_f64());
        }
    }
}
