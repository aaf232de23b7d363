//! From flags, `DARNER_*` variables and one TOML file to the settings in effect.
//!
//! Invariant: the three say the same things under the same names; a flag beats a variable, a
//! variable the file, the file the default.

pub(crate) mod check;
pub(crate) mod env;
pub(crate) mod file;
pub(crate) mod key;
pub(crate) mod layer;
pub(crate) mod print;
pub(crate) mod quantity;
pub(crate) mod registry;
pub(crate) mod settings;
pub(crate) mod swarm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use key::Role;
use layer::Layer;
use settings::Settings;

/// The settings and what there is to say about how they came about.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// In effect.
    pub(crate) settings: Settings,
    /// Sentences for the log.
    pub(crate) warnings: Vec<String>,
}

/// Reads all sources. `config` is the file named by a flag.
pub(crate) fn load(
    role: Role,
    flags: Layer,
    config: Option<&Path>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Failure> {
    let environment = env::read(variables)?;
    let mut warnings = environment.warnings;
    let mut settings = Settings::defaults(role, PathBuf::new());

    let named = config.map(Path::to_owned).or(environment.config);
    let file = match named {
        Some(path) => Some(file::read(&path)?),
        None if Path::new(file::DEFAULT_PATH).exists() => {
            Some(file::read(Path::new(file::DEFAULT_PATH))?)
        }
        None => None,
    };
    if let Some(layer) = file {
        warnings.extend(settings.apply(layer)?);
    }
    warnings.extend(settings.apply(environment.layer)?);
    warnings.extend(settings.apply(flags)?);
    if settings.data_dir.as_os_str().is_empty() {
        settings.data_dir = data_dir()?;
    }
    warnings.extend(swarm::check(&settings)?);
    Ok(Loaded { settings, warnings })
}

/// The supernodes that a command asks: those of the flags, else of the node's variable or file, else
/// the one on this machine.
pub(crate) fn supernodes(flags: &Layer) -> Result<Vec<String>, Failure> {
    let loaded = load(Role::Proxy, flags.clone(), None, std::env::vars_os())?;
    let mut supernodes = loaded.settings.supernodes;
    if supernodes.is_empty() {
        supernodes.push(format!("127.0.0.1:{}", supernode::CONTROL_PORT));
    }
    Ok(supernodes)
}

/// The default data folder of the user that runs this process.
pub(crate) fn data_dir() -> Result<PathBuf, Failure> {
    let root = rustix::process::geteuid().is_root();
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    settings::default_data_dir(root, variable).ok_or_else(|| {
        Failure::usage("there is no home folder to keep data in")
            .hint("name a folder with --data-dir DIR")
    })
}
