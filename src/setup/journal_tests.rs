//! Apply and undo over real folders: everything comes back as it was, whatever happens between.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Place {
    _temporary: tempfile::TempDir,
    data: PathBuf,
    etc: PathBuf,
}

fn place() -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let (data, etc) = (temporary.path().join("data"), temporary.path().join("etc"));
    fs::create_dir(&etc).unwrap();
    Place {
        _temporary: temporary,
        data,
        etc,
    }
}

impl Place {
    fn journal(&self) -> Journal {
        Journal::open(&self.data, Client::Containerd).unwrap()
    }

    fn change(&self, name: &str, content: &str) -> Change {
        Change {
            path: self.etc.join(name),
            content: content.to_owned(),
        }
    }

    /// Every path below `etc` with its mode and content.
    fn tree(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.etc.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode();
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    all.push((entry.path(), mode, Vec::new()));
                } else {
                    all.push((entry.path(), mode, fs::read(entry.path()).unwrap()));
                }
            }
        }
        all.sort();
        all
    }
}

#[test]
fn undo_restores_content_mode_and_absence() {
    let place = place();
    let old = place.etc.join("daemon.json");
    fs::write(&old, b"{ \"a\":1 }").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    let before = place.tree();

    let changes = [
        place.change("daemon.json", "{}"),
        place.change("certs.d/_default/hosts.toml", "x"),
    ];
    place.journal().apply(&changes).unwrap();
    assert_eq!(fs::read(&old).unwrap(), b"{}");
    let mode = fs::metadata(&old).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "a replaced file keeps its mode");

    let outcome = place.journal().undo().unwrap();
    assert_eq!(
        outcome,
        [
            Undone::Removed(place.etc.join("certs.d/_default/hosts.toml")),
            Undone::Restored(old),
        ]
    );
    assert_eq!(place.tree(), before);
    assert!(place.journal().is_empty());
    assert!(!place.data.exists());
}

#[test]
fn setup_may_run_again_and_undo_still_finds_the_first_state() {
    let place = place();
    let old = place.etc.join("hosts.toml");
    fs::write(&old, "mine").unwrap();
    place
        .journal()
        .apply(&[place.change("hosts.toml", "one")])
        .unwrap();
    let base = place.journal().base(&old).unwrap();
    assert_eq!(
        base.as_deref(),
        Some("mine"),
        "made from the operator's file"
    );
    place
        .journal()
        .apply(&[place.change("hosts.toml", "two")])
        .unwrap();
    place.journal().undo().unwrap();
    assert_eq!(fs::read_to_string(&old).unwrap(), "mine");
}

#[test]
fn a_failure_in_the_middle_leaves_everything_as_it_was() {
    let place = place();
    fs::write(place.etc.join("first"), "old").unwrap();
    fs::write(place.etc.join("file"), "not a folder").unwrap();
    let before = place.tree();
    let changes = [
        place.change("first", "new"),
        place.change("new/second", "new"),
        place.change("file/third", "new"),
    ];
    place.journal().apply(&changes).unwrap_err();
    assert_eq!(place.tree(), before);
    assert!(place.journal().is_empty());
}

#[test]
fn a_file_that_was_changed_since_is_left_alone() {
    let place = place();
    let old = place.etc.join("hosts.toml");
    fs::write(&old, "mine").unwrap();
    place
        .journal()
        .apply(&[place.change("hosts.toml", "ours")])
        .unwrap();
    fs::write(&old, "edited").unwrap();
    let outcome = place.journal().undo().unwrap();
    let [Undone::Changed(path, Some(backup))] = outcome.as_slice() else {
        panic!("{outcome:?}");
    };
    assert_eq!(path, &old);
    assert_eq!(fs::read_to_string(backup).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&old).unwrap(), "edited");

    // Moved away, the old one comes back.
    fs::remove_file(&old).unwrap();
    assert_eq!(place.journal().undo().unwrap(), [Undone::Restored(old)]);
}

#[test]
fn an_edit_between_two_runs_is_kept_aside() {
    let place = place();
    let old = place.etc.join("hosts.toml");
    fs::write(&old, "mine").unwrap();
    place
        .journal()
        .apply(&[place.change("hosts.toml", "one")])
        .unwrap();
    fs::write(&old, "edited").unwrap();
    assert_eq!(
        place.journal().base(&old).unwrap().as_deref(),
        Some("edited")
    );
    place
        .journal()
        .apply(&[place.change("hosts.toml", "two")])
        .unwrap();
    let edits = place.journal().edits();
    assert_eq!(fs::read_to_string(&edits[0]).unwrap(), "edited");
}

#[test]
fn a_crash_before_the_file_changed_is_understood() {
    let place = place();
    let old = place.etc.join("hosts.toml");
    fs::write(&old, "mine").unwrap();
    let mut journal = place.journal();
    let now = files::read(&old).unwrap();
    journal
        .note(&place.change("hosts.toml", "ours"), now.as_ref())
        .unwrap();
    journal.save().unwrap();
    assert_eq!(place.journal().undo().unwrap(), [Undone::Untouched(old)]);
}
