//! The program as a person runs it: arguments in, text and exit code out, with a home of its own.
//! Deliberately not here: any client; those have their own tests.

#![allow(
    dead_code,
    reason = "each test program uses the part of this that it needs"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A start on a busy machine takes long; a test that hangs takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A folder that stands for a machine: home, data and root of the file system.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Below what setup takes for the root of the file system.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.path("root").join(name)
    }

    /// Puts a file below the root.
    pub(crate) fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Every path below the root with mode and content.
    pub(crate) fn tree(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.path("root")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let mode = metadata.permissions().mode();
                if metadata.is_dir() {
                    folders.push(path.clone());
                    all.push((path, mode, Vec::new()));
                } else {
                    let content = fs::read(&path).unwrap();
                    all.push((path, mode, content));
                }
            }
        }
        all.sort();
        all
    }

    /// `darner` with nothing of the surroundings.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_darner"));
        command
            .args(arguments)
            .env_clear()
            .env("COLUMNS", "100")
            .env("HOME", self.path("home"))
            .env("XDG_DATA_HOME", self.path("data"))
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        self.said(&mut self.command(arguments))
    }

    pub(crate) fn said(&self, command: &mut Command) -> Said {
        Said::new(command.output().unwrap(), self.folder.path())
    }

    /// Starts `darner up` with these arguments besides, on free ports, and waits until it listens.
    pub(crate) fn up(&self, arguments: &[&str]) -> Node {
        let free = ["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        self.start("node", "Ctrl-C", &[&free, arguments].concat())
    }

    /// The same of `darner proxy`, with a data folder of that name.
    pub(crate) fn proxy(&self, data: &str, arguments: &[&str]) -> Node {
        let free = ["proxy", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        self.start(data, "Ctrl-C", &[&free, arguments].concat())
    }

    /// The same of `darner supernode`, whose `admin` is its control port.
    pub(crate) fn supernode(&self, arguments: &[&str]) -> Node {
        let free = ["supernode", "--listen", "127.0.0.1:0"];
        let all = [&free[..], &["--control", "127.0.0.1:0"], arguments].concat();
        self.start("supernode", "data folder", &all)
    }

    /// Waits for the line that `last` is in.
    fn start(&self, data: &str, last: &str, arguments: &[&str]) -> Node {
        let mut command = self.command(arguments);
        command
            .arg("--data-dir")
            .arg(self.path(data))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        // The announcement is written at once.
        for line in lines {
            let line = line.unwrap();
            text.push_str(&line);
            text.push('\n');
            if line.contains(last) {
                break;
            }
        }
        let after = |mark: &str| {
            let start = text.find(mark).unwrap() + mark.len();
            let rest = &text[start..];
            let end = rest.find(['\n', '/', ' ', ',']).unwrap();
            rest[..end].to_owned()
        };
        Node {
            listen: after("images from   http://"),
            admin: after("its state     http://"),
            text: text.replace(&*self.folder.path().to_string_lossy(), "[tmp]"),
            child,
        }
    }
}

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn new(output: Output, folder: &Path) -> Self {
        let clean = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(&*folder.to_string_lossy(), "[tmp]")
                .replace(env!("CARGO_PKG_VERSION"), "[version]")
        };
        Self {
            code: output.status.code().unwrap(),
            out: clean(&output.stdout),
            err: clean(&output.stderr),
        }
    }

    /// As a snapshot shows it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("exit {}\n", self.code);
        for (name, content) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !content.is_empty() {
                text.push_str(&format!("--- {name}\n{content}"));
            }
        }
        text
    }

    /// The same with a node's addresses named.
    pub(crate) fn text_of(&self, node: &Node) -> String {
        node.name_in(&self.text())
    }
}

/// A running node; it ends with this value.
pub(crate) struct Node {
    pub(crate) listen: String,
    pub(crate) admin: String,
    pub(crate) text: String,
    child: Child,
}

impl Node {
    /// Its addresses as names that do not change.
    pub(crate) fn name_in(&self, text: &str) -> String {
        text.replace(&self.listen, "[node]")
            .replace(&self.admin, "[admin]")
    }

    pub(crate) fn flags(&self) -> [&str; 4] {
        ["--address", &self.listen, "--admin", &self.admin]
    }

    pub(crate) fn signal(&self) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(done.unwrap().success());
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The exit code, once it ends.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait_until("the node ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to one GET.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Asks until there is an answer, within the deadline.
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}
