//! containerd's `config.toml` with its imports: which folder hosts.toml files are read from, and
//! what keeps pulls from reading them. Read only; changing it would need a restart.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::failure::Failure;
use crate::setup::files;
use crate::setup::plan::Trap;

/// Where everybody puts hosts.toml files.
pub(crate) const USUAL_FOLDER: &str = "/etc/containerd/certs.d";
const IMPORT_DEPTH_MAX: usize = 8;

/// What the CRI plugin's registry section says, over all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CriConfig {
    /// The main file exists.
    pub(crate) exists: bool,
    /// `version`; 1 if the file has none.
    pub(crate) version: i64,
    /// `config_path`, as written, if not empty.
    pub(crate) config_path: Option<String>,
    /// `mirrors` tables are there.
    pub(crate) mirrors: bool,
    /// Hosts with `configs.*.tls`.
    pub(crate) configs_tls: Vec<String>,
    /// Settings that switch containerd 2.1+ to local pulls, which split a list of folders.
    pub(crate) local_pull: Vec<&'static str>,
    /// The CRI plugin is switched off.
    pub(crate) cri_off: bool,
    /// The registry section of the other version of the file, which is ignored.
    pub(crate) wrong_section: Option<String>,
}

impl CriConfig {
    /// Reads `path` and what it imports; a root other than `/` is put before absolute imports.
    pub(crate) fn read(path: &Path, root: &Path) -> Result<Self, Failure> {
        let mut config = Self::default();
        config.exists = config.read_file(path, root, 0)?;
        Ok(config)
    }

    fn read_file(&mut self, path: &Path, root: &Path, depth: usize) -> Result<bool, Failure> {
        let Some(text) = files::read_text(path)? else {
            return Ok(false);
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::new(format!(
                "{} cannot be understood: {}",
                path.display(),
                error.message().lines().next().unwrap_or("")
            ))
            .hint("containerd does not start with it either; repair it first")
        })?;
        if depth == 0 {
            self.version = table
                .get("version")
                .and_then(Value::as_integer)
                .unwrap_or(1);
        }
        self.take(&table);
        if depth < IMPORT_DEPTH_MAX {
            let imports = table.get("imports").and_then(Value::as_array);
            for pattern in imports.into_iter().flatten().filter_map(Value::as_str) {
                for import in expand(pattern, path, root) {
                    self.read_file(&import, root, depth + 1)?;
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, table: &Table) {
        let off = table.get("disabled_plugins").and_then(Value::as_array);
        let is_cri = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            name == "cri" || name == "io.containerd.grpc.v1.cri"
        };
        self.cri_off |= off.into_iter().flatten().any(is_cri);

        let (right, wrong): (&[&str], &[&str]) = match self.version {
            ..=1 => (
                &["cri"],
                &["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"],
            ),
            2 => (
                &["io.containerd.grpc.v1.cri"],
                &["io.containerd.cri.v1.images"],
            ),
            _ => (
                &["io.containerd.cri.v1.images"],
                &["io.containerd.grpc.v1.cri"],
            ),
        };
        let plugins = table.get("plugins").and_then(Value::as_table);
        let plugin = |name: &&str| plugins?.get(*name)?.as_table();
        for name in wrong {
            if plugin(name).is_some_and(|plugin| plugin.contains_key("registry")) {
                self.wrong_section = Some((*name).to_owned());
            }
        }
        for plugin in right.iter().filter_map(plugin) {
            self.take_plugin(plugin);
        }
    }

    fn take_plugin(&mut self, plugin: &Table) {
        let is = |key: &str, value: bool| plugin.get(key).and_then(Value::as_bool) == Some(value);
        let downloads = plugin
            .get("max_concurrent_downloads")
            .and_then(Value::as_integer);
        for (set, name) in [
            (is("use_local_image_pull", true), "use_local_image_pull"),
            (
                is("disable_snapshot_annotations", false),
                "disable_snapshot_annotations",
            ),
            (
                is("discard_unpacked_layers", true),
                "discard_unpacked_layers",
            ),
            (
                is("image_pull_with_sync_fs", true),
                "image_pull_with_sync_fs",
            ),
            (
                downloads.is_some_and(|n| n != 3),
                "max_concurrent_downloads",
            ),
        ] {
            if set {
                self.local_pull.push(name);
            }
        }
        let Some(registry) = plugin.get("registry").and_then(Value::as_table) else {
            return;
        };
        if let Some(path) = registry.get("config_path").and_then(Value::as_str) {
            self.config_path = (!path.is_empty()).then(|| path.to_owned());
        }
        let has = |key: &str| {
            let table = registry.get(key).and_then(Value::as_table);
            table.is_some_and(|table| !table.is_empty())
        };
        self.mirrors |= has("mirrors");
        let configs = registry.get("configs").and_then(Value::as_table);
        for (host, config) in configs.into_iter().flatten() {
            if config.get("tls").is_some() {
                self.configs_tls.push(host.clone());
            }
        }
        if has("mirrors") || has("configs") || has("auths") {
            self.local_pull.push("registry mirrors, configs or auths");
        }
    }

    /// The folder to write hosts.toml files into: the configured one, the first of several, or the
    /// usual one.
    pub(crate) fn folder(&self) -> &str {
        let first = self
            .config_path
            .as_deref()
            .and_then(|path| path.split(':').next());
        first
            .filter(|path| !path.is_empty())
            .unwrap_or(USUAL_FOLDER)
    }

    /// What keeps CRI pulls from the node. `file` is the main file's name for the messages.
    pub(crate) fn traps(&self, file: &Path, version: Option<(u32, u32)>) -> Vec<Trap> {
        let path = file.display();
        let mut traps = Vec::new();
        if self.cri_off {
            traps.push(Trap::new(
                format!("{path} switches the CRI plugin off (disabled_plugins): kubelet and crictl cannot pull with this containerd; ctr and nerdctl can"),
                "remove \"cri\" from disabled_plugins and restart containerd, if kubelet uses it",
            ));
        }
        if let Some(section) = &self.wrong_section {
            traps.push(Trap::new(
                format!(
                    "{path} is of version {} and sets [plugins.\"{section}\".registry], which that version ignores: pulls go past the node without a word",
                    self.version
                ),
                self.lines("put this into it", version),
            ));
        }
        match &self.config_path {
            None if self.mirrors => traps.push(Trap::new(
                format!(
                    "{path} has registry mirrors tables and no config_path: hosts.toml files are not read, and config_path beside mirrors keeps containerd from starting"
                ),
                self.lines("put this in the place of the mirrors tables", version),
            )),
            None if self.wrong_section.is_some() => {}
            None => {
                let how = if self.exists { "put this into it" } else { "write it" };
                traps.push(Trap::new(
                    format!(
                        "{}: kubelet's and crictl's pulls go past the node without a word",
                        self.unset(file, version)
                    ),
                    self.lines(how, version),
                ));
            }
            Some(_) if self.mirrors => traps.push(Trap::new(
                format!(
                    "{path} has registry mirrors tables beside config_path: containerd's CRI plugin does not start with both"
                ),
                "remove the mirrors tables and restart containerd",
            )),
            Some(_) if !self.configs_tls.is_empty() => traps.push(Trap::new(
                format!(
                    "{path} has configs tls for {} beside config_path: containerd 1.x does not start with both",
                    self.configs_tls.join(", ")
                ),
                "move ca, client or skip_verify into the hosts.toml of that registry and restart containerd",
            )),
            Some(list) if list.contains(':') => {
                traps.extend(self.list_trap(list, &path.to_string(), version));
            }
            Some(_) => {}
        }
        traps
    }

    fn list_trap(&self, list: &str, path: &str, version: Option<(u32, u32)>) -> Option<Trap> {
        if version.is_some_and(|version| version < (2, 1)) {
            return None;
        }
        let because = match self.local_pull.first() {
            Some(setting) => format!("only {setting} keeps it from that now"),
            None => "pulls go past the node without a word".to_owned(),
        };
        Some(Trap::new(
            format!(
                "{path} sets config_path to a list ({list}): containerd 2.1 and later takes it for one folder that does not exist; {because}"
            ),
            format!(
                "set config_path = \"{}\" alone and restart containerd",
                self.folder()
            ),
        ))
    }

    fn unset(&self, file: &Path, version: Option<(u32, u32)>) -> String {
        let path = file.display();
        let what = if self.exists {
            format!("{path} sets no config_path")
        } else {
            format!("there is no {path}, so config_path is not set")
        };
        match version {
            Some(version) if version >= (2, 2) => format!(
                "{what}, and the default, a list of two folders, is taken for one that does not exist"
            ),
            _ => what,
        }
    }

    /// How to set the folder, for this version of file and containerd.
    fn lines(&self, how: &str, version: Option<(u32, u32)>) -> String {
        let of_file = match (self.exists, version) {
            (true, _) => self.version,
            (false, Some((2.., _))) => 3,
            (false, _) => 2,
        };
        let section = match of_file {
            ..=1 => "cri",
            2 => "\"io.containerd.grpc.v1.cri\"",
            _ => "\"io.containerd.cri.v1.images\"",
        };
        let head = match self.exists {
            true => String::new(),
            false => format!("      version = {of_file}\n"),
        };
        format!(
            "{how} and restart containerd, which reads that file only when it starts:\n{head}      [plugins.{section}.registry]\n        config_path = \"{}\"",
            self.folder()
        )
    }
}

/// The files an import names: relative to the importing file, with `*` and `?` in the file's name.
fn expand(pattern: &str, importer: &Path, root: &Path) -> Vec<PathBuf> {
    let path = match pattern.strip_prefix('/') {
        Some(absolute) => root.join(absolute),
        None => importer.parent().unwrap_or(root).join(pattern),
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    if !name.contains(['*', '?']) {
        return vec![path.clone()];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| matches(name.as_bytes(), entry.file_name().as_encoded_bytes()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Shell-style matching with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || (!name.is_empty() && matches(pattern, &name[1..]))
        }
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((p, rest)), Some((n, name))) => p == n && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traps(text: &str, version: Option<(u32, u32)>) -> Vec<String> {
        let mut config = CriConfig {
            exists: true,
            ..CriConfig::default()
        };
        let table: Table = text.parse().unwrap();
        config.version = table
            .get("version")
            .and_then(Value::as_integer)
            .unwrap_or(1);
        config.take(&table);
        let traps = config.traps(Path::new("/c"), version);
        traps.into_iter().map(|trap| trap.what).collect()
    }

    #[test]
    fn one_folder_is_well() {
        let v2 =
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/x\"\n";
        assert!(traps(v2, None).is_empty());
        let v3 = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/x\"\n";
        assert!(traps(v3, None).is_empty());
    }

    #[test]
    fn each_silent_bypass_is_named() {
        assert!(traps("version = 2\n", None)[0].contains("sets no config_path"));
        assert!(traps("version = 3\n", Some((2, 2)))[0].contains("list of two folders"));
        let list = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/x:/y\"\n";
        assert!(traps(list, None)[0].contains("takes it for one folder"));
        assert!(traps(list, Some((2, 0))).is_empty());
        let wrong =
            "version = 3\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/x\"\n";
        assert!(traps(wrong, None)[0].contains("which that version ignores"));
        let registry = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n";
        let mirrors = format!("{registry}mirrors.\"docker.io\".endpoint = [\"http://m\"]\n");
        assert!(traps(&mirrors, None)[0].contains("no config_path"));
        let both = format!("{mirrors}config_path = \"/x\"\n");
        assert!(traps(&both, None)[0].contains("does not start with both"));
        let tls = format!("{registry}config_path = \"/x\"\nconfigs.\"m:1\".tls.ca_file = \"f\"\n");
        assert!(traps(&tls, None)[0].contains("configs tls for m:1"));
        assert!(
            traps("version = 2\ndisabled_plugins = [\"cri\"]\n", None)[0]
                .contains("CRI plugin off")
        );
    }

    #[test]
    fn imports_are_followed_and_the_last_word_counts() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc/containerd");
        std::fs::create_dir_all(etc.join("conf.d")).unwrap();
        let main = etc.join("config.toml");
        std::fs::write(
            &main,
            "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        )
        .unwrap();
        let section = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = ";
        std::fs::write(etc.join("conf.d/a.toml"), format!("{section}\"/a\"\n")).unwrap();
        std::fs::write(etc.join("conf.d/b.toml"), format!("{section}\"/b\"\n")).unwrap();
        std::fs::write(etc.join("conf.d/c.conf"), format!("{section}\"/c\"\n")).unwrap();
        let config = CriConfig::read(&main, root.path()).unwrap();
        assert_eq!(config.folder(), "/b");
        assert!(
            !CriConfig::read(&etc.join("none"), root.path())
                .unwrap()
                .exists
        );
    }
}
