//! What a layout keeps, replaces and refuses.

use super::*;

fn index(folder: &Path) -> Vec<Value> {
    let text = fs::read(folder.join(INDEX)).unwrap();
    let index: Value = serde_json::from_slice(&text).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn named<'a>(digest: &'a Digest, tag: Option<&str>) -> Entry<'a> {
    Entry {
        media_type: oci::media_type::OCI_MANIFEST,
        digest,
        size: 1,
        platform: None,
        named: tag.map(|tag| (tag.to_owned(), format!("quay.io/a/b:{tag}"))),
    }
}

#[test]
fn a_blob_that_does_not_fit_its_name_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(&folder.path().join("new/deep")).unwrap();
    let digest = Digest::sha256(b"content");
    assert_eq!(layout.has(&digest, None), Ok(None));
    layout.put(&digest, b"content").unwrap();
    assert_eq!(layout.has(&digest, Some(7)), Ok(Some(7)));
    fs::write(layout.blob(&digest), b"rotten!").unwrap();
    assert_eq!(layout.has(&digest, Some(7)), Ok(None));
    assert!(!layout.blob(&digest).exists());
}

#[test]
fn what_did_not_arrive_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path()).unwrap();
    let digest = Digest::sha256(b"content");
    let mut incoming = layout.incoming(&digest).unwrap();
    incoming.write(b"half").unwrap();
    drop(incoming);
    assert_eq!(layout.has(&digest, None), Ok(None));
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["blobs", INDEX, MARK]);
}

#[test]
fn an_image_replaces_only_the_one_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path()).unwrap();
    let [old, new, other] = ["old", "new", "other"].map(|t| Digest::sha256(t.as_bytes()));
    layout.name(&named(&other, Some("2"))).unwrap();
    layout.name(&named(&old, Some("1"))).unwrap();
    layout.name(&named(&old, None)).unwrap();
    // Opened again, it is the same.
    let layout = Layout::open(folder.path()).unwrap();
    layout.name(&named(&new, Some("1"))).unwrap();
    layout.name(&named(&old, None)).unwrap();
    let all = index(folder.path());
    let names: Vec<_> = all
        .iter()
        .map(|e| (e["digest"].clone(), e["annotations"][REF_NAME].clone()))
        .collect();
    assert_eq!(
        names,
        [
            (json!(other), json!("2")),
            (json!(new), json!("1")),
            (json!(old), Value::Null)
        ]
    );
    assert_eq!(all[1]["annotations"][IMAGE_NAME], "quay.io/a/b:1");
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "x").unwrap();
    let refused = Layout::open(folder.path()).unwrap_err();
    assert_eq!(refused.code(), 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
