//! The network: a bridge in a namespace of its own, and a namespace with one shaped link for each machine.
//!
//! Every link is shaped alike at both ends by `tbf`, so a machine sends and receives at the same rate.
//! The burst is larger than a GSO packet: below 66 KB tbf cuts those and arms a timer for each
//! frame, and then the lab measures timers. Small TSO packets of many flows are forbidden for the same
//! reason. Invariant: all names begin with the lab's prefix. Not here: taking it down, which the
//! supervisor does for good and bad ends alike.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command;
use crate::options::Rate;
use crate::place::{BRIDGE, Place};

/// Above so many machines the host's neighbour table, which all namespaces share, would overflow.
const MACHINES_WITHOUT_CARE: usize = 20;

/// The settings of that table and what they become.
pub(crate) const NEIGHBOURS: [(&str, &str); 3] = [
    ("gc_thresh1", "2048"),
    ("gc_thresh2", "4096"),
    ("gc_thresh3", "8192"),
];

/// Where the host keeps them.
pub(crate) fn neighbour_setting(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/neigh/default").join(name)
}

/// Makes bridge and machines.
pub(crate) fn make(nodes: usize, rate: Rate) -> Result<()> {
    let mut places = vec![Place::Origin, Place::Supernode];
    places.extend((0..nodes).map(Place::Node));
    if places.len() > MACHINES_WITHOUT_CARE {
        // The supervisor has noted what they were and puts them back. From the last on: the
        // kernel does not mind the order, a person who reads them in between does.
        for (name, value) in NEIGHBOURS.iter().rev() {
            fs::write(neighbour_setting(name), value).context("raising the neighbour table")?;
        }
    }
    command(&format!("ip netns add {BRIDGE}"))?;
    command(&format!("ip -n {BRIDGE} link add br0 type bridge"))?;
    command(&format!("ip -n {BRIDGE} link set br0 up"))?;
    for place in places {
        machine(place, rate).with_context(|| format!("making {}", place.name()))?;
    }
    Ok(())
}

fn machine(place: Place, rate: Rate) -> Result<()> {
    let (space, link, ip) = (place.namespace(), place.name(), place.address());
    let burst = if rate.0 < 500_000_000 { "128k" } else { "256k" };
    let shape = format!("root tbf rate {}bit burst {burst} latency 50ms", rate.0);
    for line in [
        format!("ip netns add {space}"),
        format!("ip -n {BRIDGE} link add {link} type veth peer name eth0 netns {space}"),
        format!("ip -n {BRIDGE} link set {link} master br0 up"),
        format!("ip -n {space} link set lo up"),
        format!("ip -n {space} addr add {ip}/24 dev eth0"),
        format!("ip -n {space} link set eth0 up"),
        // The host's default may be bbr, which paces by timers of its own.
        format!("ip -n {space} route replace 10.77.0.0/24 dev eth0 src {ip} congctl cubic"),
        loopback(&space, "127.0.0.0/8"),
        loopback(&space, "127.0.0.1"),
        format!("ip netns exec {space} sysctl -qw net.ipv4.tcp_min_tso_segs=32"),
        format!("tc -n {space} qdisc add dev eth0 {shape}"),
        format!("tc -n {BRIDGE} qdisc add dev {link} {shape}"),
    ] {
        command(&line)?;
    }
    Ok(())
}

fn loopback(space: &str, net: &str) -> String {
    format!(
        "ip -n {space} route replace local {net} dev lo src 127.0.0.1 table local congctl cubic"
    )
}

/// Moves the calling thread, and what it starts from now on, into a namespace.
pub(crate) fn enter(space: &str) -> Result<()> {
    let file = File::open(Path::new("/run/netns").join(space));
    let file = file.with_context(|| format!("the namespace {space}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// A thread in a namespace.
pub(crate) fn thread<T: Send + 'static>(
    space: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(move || {
        enter(&space)?;
        Ok(work())
    })
}

/// Does something short in a namespace.
pub(crate) fn inside<T: Send + 'static>(
    space: String,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = thread(space, work).join();
    done.map_err(|_| anyhow!("a thread of the lab panicked"))??
}
