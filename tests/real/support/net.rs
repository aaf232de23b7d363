//! Machines of their own for the parts of a swarm: network namespaces joined by a bridge.
//!
//! Every name begins with `darner-real-` and this process' id, and is gone when the [`Net`] is. The bridge is in a
//! namespace too, so nothing of this machine's own network changes, and nobody in here reaches anything outside.
//! Deliberately not here: links with a speed or a delay; those are the lab's (`examples/lab`).

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::run;

const STEP: Duration = Duration::from_secs(20);
/// Where `ip netns` keeps them.
const NAMED: &str = "/run/netns";

/// Namespaces in one network.
pub(crate) struct Net {
    /// Where the bridge is, and what is no node: the registry and the test itself.
    pub(crate) outside: Space,
    /// One for each machine.
    pub(crate) machines: Vec<Space>,
}

/// One namespace: a name and its address in the network.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    name: String,
    pub(crate) addr: IpAddr,
}

impl Net {
    /// Makes one with this many machines.
    pub(crate) fn make(machines: u8) -> Result<Self> {
        // What is made of it is removed should the rest fail.
        let mut net = Self {
            outside: Space::new("outside", 1),
            machines: Vec::new(),
        };
        let outside = net.outside.make()?;
        ip(outside, "link add br0 type bridge")?;
        let addr = net.outside.addr;
        ip(outside, &format!("addr add {addr}/24 dev br0"))?;
        ip(outside, "link set br0 up")?;
        for number in 2..machines + 2 {
            net.machines.push(Space::new(&number.to_string(), number));
            let Some(space) = net.machines.last() else {
                continue;
            };
            let (name, addr) = (space.make()?, space.addr);
            let port = format!("p{number}");
            let pair = format!("link add {port} type veth peer name eth0 netns {name}");
            ip(outside, &pair)?;
            ip(outside, &format!("link set {port} master br0 up"))?;
            ip(name, &format!("addr add {addr}/24 dev eth0"))?;
            ip(name, "link set eth0 up")?;
        }
        Ok(net)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in self.machines.iter().chain([&self.outside]) {
            space.remove();
        }
    }
}

impl Space {
    fn new(name: &str, number: u8) -> Self {
        Self {
            name: format!("darner-real-{}-{name}", std::process::id()),
            addr: Ipv4Addr::new(10, 88, 0, number).into(),
        }
    }

    fn make(&self) -> Result<&str> {
        // Left by a test that was killed, when this process got the same id.
        self.remove();
        let mut add = Command::new("ip");
        run(add.args(["netns", "add", &self.name]), STEP)?;
        ip(&self.name, "link set lo up")?;
        Ok(&self.name)
    }

    fn remove(&self) {
        let mut remove = Command::new("ip");
        let _ = run(remove.args(["netns", "del", &self.name]), STEP);
    }

    /// A command that runs in here.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={NAMED}/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }

    /// Does `work` in here, on a thread of its own: sockets and processes that it makes are in here too. What it
    /// starts must end with it, since a child does not outlive the thread that made it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let done = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let link = File::open(format!("{NAMED}/{}", self.name))?;
                move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("entering {}", self.name))?;
                work()
            });
            inside.join()
        });
        done.map_err(|_| anyhow!("what ran in {} panicked", self.name))?
    }
}

fn ip(space: &str, words: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-n", space]).args(words.split(' '));
    run(&mut ip, STEP).with_context(|| format!("ip -n {space} {words}"))?;
    Ok(())
}
