//! containerd's `hosts.toml`: what one says, what is wrong with it, and the same with the node in
//! front.
//!
//! Invariant: a merge keeps every byte of the operator's and only inserts; the result is parsed
//! again and must name the node first, or it is refused. The rules about what each containerd
//! makes of a file are from its sources and from runs of 1.6.20, 1.7.24 and 2.1.9.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::print::quote;
use crate::setup::plan::Trap;

const CAPABILITIES: &str = "[\"pull\", \"resolve\"]";

/// A `[host]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its key, a URL or a host.
    pub(crate) url: String,
    /// Absent or empty means all.
    pub(crate) capabilities: Vec<String>,
    /// TLS settings it carries: `skip_verify`, `ca`, `client`.
    pub(crate) tls: Vec<&'static str>,
}

/// What a file says, hosts in the order containerd tries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostsFile {
    /// The real registry as named in the file.
    pub(crate) server: Option<String>,
    /// The mirrors.
    pub(crate) hosts: Vec<Host>,
    /// Root-level capabilities.
    pub(crate) capabilities: Vec<String>,
    /// Nothing at all but comments.
    pub(crate) blank: bool,
}

/// Why a file cannot be understood: line and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Counted from 1.
    pub(crate) line: usize,
    /// One sentence.
    pub(crate) why: String,
}

impl HostsFile {
    /// Reads the text as containerd 2 does, which is the most tolerant.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        let table = DeTable::parse(text).map_err(|error| {
            let before = text.bytes().take(error.span().map_or(0, |span| span.start));
            Unreadable {
                line: 1 + before.filter(|byte| *byte == b'\n').count(),
                why: error.message().lines().next().unwrap_or("").to_owned(),
            }
        })?;
        let table = table.get_ref();
        let mut file = Self {
            blank: table.is_empty(),
            ..Self::default()
        };
        let mut placed = Vec::new();
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("server", DeValue::String(server)) => file.server = Some(server.to_string()),
                ("capabilities", value) => file.capabilities = words(value),
                ("host", DeValue::Table(hosts)) => {
                    for (url, host) in hosts {
                        let host = Host::of(url.get_ref(), host.get_ref());
                        placed.push((url.span().start, host));
                    }
                }
                _ => {}
            }
        }
        placed.sort_by_key(|(start, _)| *start);
        file.hosts = placed.into_iter().map(|(_, host)| host).collect();
        Ok(file)
    }

    /// Whether pulls ask `url` first, and for everything a pull needs.
    pub(crate) fn leads_with(&self, url: &str) -> bool {
        self.hosts.first().is_some_and(|host| {
            let can = |word: &str| {
                host.capabilities.is_empty() || host.capabilities.iter().any(|c| c == word)
            };
            host.is(url) && can("pull") && can("resolve")
        })
    }

    /// Whether the node is named at all.
    pub(crate) fn names(&self, url: &str) -> bool {
        self.hosts.iter().any(|host| host.is(url))
    }

    /// What in this file makes some containerd go past its mirrors. `version` narrows it.
    pub(crate) fn traps(&self, path: &Path, version: Option<(u32, u32)>) -> Vec<Trap> {
        let path = path.display();
        let before = |major, minor| version.is_none_or(|version| version < (major, minor));
        let mut traps = Vec::new();
        if self.hosts.is_empty() && self.server.is_some() && before(2, 0) {
            traps.push(Trap::new(
                format!("{path} has a server and no [host] table: containerd 1.6 and 1.7 refuse it and ask the real registry"),
                "name the mirror in a [host.\"URL\"] table too",
            ));
        }
        let lists = self.hosts.iter().map(|host| &host.capabilities);
        let referrers = |list: &Vec<String>| list.iter().any(|word| word == "referrers");
        if lists.chain([&self.capabilities]).any(referrers) && before(2, 2) {
            traps.push(Trap::new(
                format!("{path} lists the capability `referrers`: containerd before 2.2 refuses the whole file and asks the real registry"),
                format!("write capabilities = {CAPABILITIES}"),
            ));
        }
        for host in &self.hosts {
            let plain = host.url.starts_with("http://");
            let port_80 = host.url.trim_end_matches('/').rsplit(':').next() == Some("80");
            if plain && !port_80 && !host.tls.is_empty() {
                let what = host.tls.join(", ");
                traps.push(Trap::new(
                    format!("{path} sets {what} for {}: containerd since 1.6.32 then speaks TLS to that plain port and may skip the mirror", host.url),
                    format!("remove {what} from that table, or write https://"),
                ));
            }
            if host.url.contains('[') && before(2, 0) {
                traps.push(Trap::new(
                    format!("{path} names {}: containerd 1.6 and 1.7 cannot parse an IPv6 literal there, ignore the file and ask the real registry", host.url),
                    "write a host name or an IPv4 address",
                ));
            }
        }
        traps
    }
}

impl Host {
    fn of(url: &str, value: &DeValue<'_>) -> Self {
        let mut host = Self {
            url: url.to_owned(),
            capabilities: Vec::new(),
            tls: Vec::new(),
        };
        for (key, value) in value.as_table().into_iter().flatten() {
            match key.get_ref().as_ref() {
                "capabilities" => host.capabilities = words(value.get_ref()),
                "skip_verify" if value.get_ref().as_bool() == Some(true) => {
                    host.tls.push("skip_verify");
                }
                "ca" => host.tls.push("ca"),
                "client" => host.tls.push("client"),
                _ => {}
            }
        }
        host
    }

    fn is(&self, url: &str) -> bool {
        self.url.trim_end_matches('/') == url
    }
}

/// A new file. `server` is left out for `_default`, which stands for every registry; the
/// certificates of a folder are named, because containerd stops finding them by itself once the
/// folder has a hosts.toml.
pub(crate) fn fresh(url: &str, server: Option<&str>, certificates: &Certificates) -> String {
    let mut text = String::from(
        "# Written by `darner setup`; `darner setup --undo` puts back what was here.\n",
    );
    if let Some(server) = server {
        text.push_str(&format!("server = {}\n", quote(server)));
        text.push_str(&certificates.lines());
    }
    text.push('\n');
    text.push_str(&host_table(url));
    text
}

/// The operator's file with the node in front of its hosts; `None` if that cannot be done by
/// inserting.
pub(crate) fn merged(text: &str, url: &str) -> Option<String> {
    let at = first_table(text)?;
    let (head, tail) = text.split_at(at);
    let mut merged = head.to_owned();
    if !merged.is_empty() && !merged.ends_with('\n') {
        merged.push('\n');
    }
    merged.push_str("# The node of `darner setup`; `darner setup --undo` takes it out again.\n");
    merged.push_str(&host_table(url));
    if !tail.is_empty() {
        merged.push('\n');
        merged.push_str(tail);
    }
    let (old, new) = (
        HostsFile::parse(text).ok()?,
        HostsFile::parse(&merged).ok()?,
    );
    let others_stay = new.hosts.get(1..)? == old.hosts.as_slice() && new.server == old.server;
    (new.leads_with(url) && others_stay).then_some(merged)
}

fn host_table(url: &str) -> String {
    format!("[host.{}]\n  capabilities = {CAPABILITIES}\n", quote(url))
}

/// Where the first table begins, with the comments right above it: the first line in brackets
/// before which everything is complete TOML (so it is not inside a list or a text).
fn first_table(text: &str) -> Option<usize> {
    let mut offset = 0;
    let mut comments_from = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('#') {
            comments_from = comments_from.or(Some(offset));
        } else if trimmed.starts_with('[') && DeTable::parse(&text[..offset]).is_ok() {
            return Some(comments_from.unwrap_or(offset));
        } else {
            comments_from = None;
        }
        offset += line.len();
    }
    DeTable::parse(text).is_ok().then_some(text.len())
}

/// Docker-style certificate files of a folder: `*.crt` and pairs of `*.cert` and `*.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    ca: Vec<PathBuf>,
    client: Vec<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Those in `folder`, in the order of their names.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
            .collect();
        names.sort();
        let ends = |path: &Path, end: &str| path.extension().is_some_and(|e| e == end);
        let pair = |cert: &PathBuf| {
            let key = cert.with_extension("key");
            (ends(cert, "cert") && names.contains(&key)).then(|| (cert.clone(), key))
        };
        Self {
            ca: names.iter().filter(|n| ends(n, "crt")).cloned().collect(),
            client: names.iter().filter_map(pair).collect(),
        }
    }

    /// The root-level keys that say the same; relative paths are relative to the file.
    fn lines(&self) -> String {
        let text = |path: &Path| quote(&path.to_string_lossy());
        let mut lines = String::new();
        if !self.ca.is_empty() {
            let list: Vec<String> = self.ca.iter().map(|path| text(path)).collect();
            lines.push_str(&format!("ca = [{}]\n", list.join(", ")));
        }
        if !self.client.is_empty() {
            let pairs = self.client.iter();
            let list: Vec<String> = pairs
                .map(|(cert, key)| format!("[{}, {}]", text(cert), text(key)))
                .collect();
            lines.push_str(&format!("client = [{}]\n", list.join(", ")));
        }
        lines
    }
}

fn words(value: &DeValue<'_>) -> Vec<String> {
    let items = value.as_array().map(|array| array.iter());
    items
        .into_iter()
        .flatten()
        .filter_map(|item| item.get_ref().as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
