//! How large the frames of a fast body are, and what they cost: `cargo bench -p oci --bench frames`.
//!
//! A thread writes 1 GiB answers as fast as the loopback takes them; the client reads them and
//! writes each frame to a file in memory, as a transfer does. Prints medians of seven runs.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that a person runs"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use oci::client::{Client, ClientConfig, EndpointOptions, Redirects, Request};

const LENGTH: u64 = 1 << 30;
const RUNS: usize = 7;

struct Run {
    frames: u64,
    took: Duration,
    cpu: Duration,
}

fn main() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let client = Client::new(ClientConfig::bare());
    let options = EndpointOptions {
        named: true,
        ..EndpointOptions::default()
    };
    let endpoint = client.endpoint(&url, options).unwrap();
    let file = std::fs::File::create("/dev/shm/darner-bench-frames").unwrap();
    let mut runs: Vec<Run> = (0..RUNS)
        .map(|_| {
            runtime.block_on(async {
                let request = Request {
                    endpoint: &endpoint,
                    method: Method::GET,
                    url: endpoint.url("/").unwrap(),
                    headers: HeaderMap::new(),
                    body: Bytes::new(),
                    also_allowed: None,
                    redirects: Redirects::Follow,
                };
                let (begun, cpu) = (Instant::now(), process_cpu());
                let mut body = client.send(request).await.unwrap().body;
                let (mut frames, mut offset) = (0, 0);
                while let Some(frame) = body.next().await {
                    let frame = frame.unwrap();
                    file.write_all_at(&frame, offset).unwrap();
                    (frames, offset) = (frames + 1, offset + frame.len() as u64);
                }
                assert_eq!(offset, LENGTH);
                Run {
                    frames,
                    took: begun.elapsed(),
                    cpu: process_cpu() - cpu,
                }
            })
        })
        .collect();
    std::fs::remove_file("/dev/shm/darner-bench-frames").unwrap();
    runs.sort_by_key(|run| run.took);
    let median = &runs[RUNS / 2];
    println!(
        "1 GiB: {:.0} KiB a frame, {:.0} MiB/s, {:.2} CPU-s/GiB with the sender's",
        (LENGTH / median.frames) as f64 / 1024.0,
        1024.0 / median.took.as_secs_f64(),
        median.cpu.as_secs_f64(),
    );
}

fn serve(mut stream: TcpStream) {
    let chunk = vec![7; 1 << 20];
    let mut head = [0; 4096];
    // One read is one request: the client sends the next one only after the answer.
    while stream.read(&mut head).is_ok_and(|read| read > 0) {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
        )
        .unwrap();
        for _ in 0..LENGTH >> 20 {
            stream.write_all(&chunk).unwrap();
        }
    }
}

/// User and system time of this process, from `/proc/self/stat` (in ticks of 10 ms).
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
