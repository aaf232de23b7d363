//! The process's life: signals, draining, and what `--swarm` opens.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use cli::{Machine, Node, wait_until};

/// One request over a connection of its own; the connection comes back for the answer.
fn ask(node: &Node, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&node.listen).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(cli::DEADLINE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_idle_node_ends_at_the_first_signal() {
    let machine = Machine::new();
    let mut node = machine.up(&[]);
    assert!(answer(ask(&node, "/v2/")).starts_with("HTTP/1.1 200"));
    node.signal();
    assert_eq!(node.wait(), Some(0));
    // The folder is free again and the next start finds it in order.
    let mut again = machine.up(&[]);
    assert!(again.running());
}

#[test]
fn a_node_serves_on_when_nobody_reads_what_it_says() {
    let machine = Machine::new();
    let mut command = machine.command(["up", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(machine.path("node"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let serving = log.lines().map(Result::unwrap).find_map(|line| {
        let (_, rest) = line.split_once("listen=[")?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    let address = serving.unwrap();
    // The log has lost its reader too, and each request is a line of it.
    for _ in 0..3 {
        assert!(cli::get(&address, "/v2/").starts_with("HTTP/1.1 200"));
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_first_signal_drains_and_the_second_ends_at_once() {
    let machine = Machine::new();
    // An upstream that takes the request and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = format!("silent.test=http://{}", silent.local_addr().unwrap());
    let mut node = machine.up(&["--registry", &registry, "--drain", "10m"]);
    let _waiting = ask(&node, "/v2/app/manifests/latest?ns=silent.test");
    let (_held, _) = silent.accept().unwrap();

    node.signal();
    wait_until("the front door closes", || {
        TcpStream::connect(&node.listen).is_err().then_some(())
    });
    assert!(node.running(), "a request is under way");
    node.signal();
    assert_eq!(node.wait(), Some(128 + 15));
}

#[test]
fn a_drain_ends_when_its_time_is_over() {
    let machine = Machine::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = format!("silent.test=http://{}", silent.local_addr().unwrap());
    let mut node = machine.up(&["--registry", &registry, "--drain", "100ms"]);
    let _waiting = ask(&node, "/v2/app/manifests/latest?ns=silent.test");
    let (_held, _) = silent.accept().unwrap();
    node.signal();
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn an_unknown_registry_is_never_dialled() {
    let machine = Machine::new();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let node = machine.up(&[]);
    let port = outside.local_addr().unwrap().port();
    let path = format!("/v2/app/manifests/latest?ns=127.0.0.1:{port}");
    let text = answer(ask(&node, &path));
    assert!(text.starts_with("HTTP/1.1 4"), "{text}");
    assert!(outside.accept().is_err(), "nobody came");
}

#[test]
fn swarm_opens_the_supernodes_ports_on_that_address() {
    // Fixed ports: this is the one test that uses them, on an address of its own.
    const ADDRESS: &str = "127.65.1.3";
    let machine = Machine::new();
    if TcpListener::bind((ADDRESS, 8001)).is_err() || TcpListener::bind((ADDRESS, 8002)).is_err() {
        eprintln!("skipped: the ports are taken on this machine");
        return;
    }
    let node = machine.up(&["--swarm", ADDRESS]);
    let mut front = TcpStream::connect((ADDRESS, 8001)).unwrap();
    front
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(answer(front).starts_with("HTTP/1.1 200"));
    let control = format!("{ADDRESS}:8002");
    let said = machine.run(["status", "--admin", &control]);
    assert_eq!(said.code, 0, "{}", said.text());
    assert!(node.text.contains(&control), "{}", node.text);
}
