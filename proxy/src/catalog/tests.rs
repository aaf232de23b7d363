//! The catalog on a real disk.

use super::*;

fn place() -> Place {
    Place {
        registry: "quay.io".parse().unwrap(),
        repository: "a/b".parse().unwrap(),
    }
}

fn notes() -> Vec<Note> {
    let digest = Digest::sha256(b"m");
    let class = AcceptClass::of(&http::HeaderMap::new());
    vec![
        Note::Manifest(
            place(),
            digest,
            ManifestFact {
                media_type: "x/y; z=1".into(),
                size: 1,
                seen: 7,
            },
        ),
        Note::Tag(place(), "latest".parse().unwrap(), class, digest, 7),
        Note::Member(
            place(),
            digest,
            MemberFact {
                size: Some(3),
                seen: 7,
            },
        ),
        Note::Public(place(), PublicFact { seen: 9 }),
    ]
}

#[test]
fn facts_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let digest = Digest::sha256(b"m");
    let catalog = Catalog::open(&path).unwrap();
    catalog.note(notes());
    assert_eq!(catalog.public(&place()), Some(PublicFact { seen: 9 }));
    catalog.flush();
    drop(catalog);

    let catalog = Catalog::open(&path).unwrap();
    let tag = "latest".parse().unwrap();
    let class = AcceptClass::of(&http::HeaderMap::new());
    assert_eq!(
        catalog.manifest(&place(), &digest).unwrap().media_type,
        "x/y; z=1"
    );
    assert_eq!(catalog.tag(&place(), &tag, &class).unwrap().digest, digest);
    assert_eq!(catalog.tag_for_all(&place(), &tag).len(), 1);
    assert_eq!(catalog.member(&place(), &digest).unwrap().size, Some(3));
    catalog.note(vec![
        Note::TagGone(place(), tag.clone()),
        Note::NotPublic(place()),
    ]);
    assert_eq!(catalog.tag(&place(), &tag, &class), None);
    assert_eq!(catalog.public(&place()), None);
}

#[test]
fn the_old_is_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let catalog = Catalog::open(&path).unwrap();
    catalog.note(notes());
    catalog.prune(8);
    drop(catalog);
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.member(&place(), &Digest::sha256(b"m")), None);
    assert!(catalog.public(&place()).is_some());
}

#[test]
fn a_damaged_file_is_put_aside() {
    for damage in [b"not a database".repeat(1000), vec![0; 40960]] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        std::fs::write(&path, damage).unwrap();
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.public(&place()), None);
        assert!(folder.path().join("catalog.redb.damaged-0").exists());
    }
}

#[test]
fn a_file_damaged_in_the_middle_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let catalog = Catalog::open(&path).unwrap();
    catalog.note(notes());
    catalog.flush();
    drop(catalog);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.public(&place()), None);
}

#[test]
fn two_nodes_on_one_folder_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let _first = Catalog::open(&path).unwrap();
    assert!(matches!(Catalog::open(&path), Err(CatalogError::InUse(_))));
}
