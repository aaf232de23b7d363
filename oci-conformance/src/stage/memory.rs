//! How much memory a process and its children take, where the kernel tells.
//!
//! A shell may stand before the registry, so all processes of the group count together.

/// Sum of the peaks of resident memory, in bytes.
pub(super) fn peak(group: i32) -> Option<u64> {
    sum(group, &["VmHWM:"])
}

/// Sum of what is held now without mapped files, whose pages belong to the kernel's cache.
pub(super) fn held(group: i32) -> Option<u64> {
    sum(group, &["RssAnon:", "RssShmem:"])
}

fn sum(group: i32, fields: &[&str]) -> Option<u64> {
    let mut kib = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        if group_of(&entry.path()) != Some(group) {
            continue;
        }
        // It may end while we look.
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| {
            let field = fields.iter().find(|field| line.starts_with(**field))?;
            line[field.len()..]
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        });
        kib = Some(kib.unwrap_or(0) + lines.sum::<u64>());
    }
    Some(kib? * 1024)
}

/// The process group: the third field after the name, which is in parentheses.
fn group_of(process: &std::path::Path) -> Option<i32> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(2)?.parse().ok()
}
