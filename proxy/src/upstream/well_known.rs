//! The built-in table of public registries. Data only.
//!
//! A name is here because its registry is public and its blobs are not under a stranger's control of
//! addresses: patterns cover hosts that one cloud hands out under its own domain.

/// A registry that needs no configuration.
pub(super) struct WellKnown {
    /// The client's name for it; `*` stands for any characters but a dot.
    pub(super) name: &'static str,
    /// Its host, where that differs from the name.
    pub(super) host: Option<&'static str>,
    /// False where HEAD of a blob is refused and GET is not.
    pub(super) blob_head: bool,
    /// Its token servers under another domain.
    pub(super) realms: &'static [&'static str],
}

const fn entry(name: &'static str) -> WellKnown {
    WellKnown {
        name,
        host: None,
        blob_head: true,
        realms: &[],
    }
}

/// Exact names first.
pub(super) const TABLE: &[WellKnown] = &[
    WellKnown {
        host: Some("registry-1.docker.io"),
        ..entry("docker.io")
    },
    entry("cgr.dev"),
    entry("codeberg.org"),
    entry("container-registry.oracle.com"),
    WellKnown {
        realms: &["auth.docker.io"],
        ..entry("dhi.io")
    },
    entry("docker.elastic.co"),
    entry("gcr.io"),
    entry("ghcr.io"),
    entry("icr.io"),
    WellKnown {
        realms: &["ghcr.io"],
        ..entry("lscr.io")
    },
    entry("mcr.microsoft.com"),
    entry("nvcr.io"),
    WellKnown {
        blob_head: false,
        ..entry("public.ecr.aws")
    },
    entry("quay.io"),
    entry("registry.access.redhat.com"),
    entry("registry.connect.redhat.com"),
    entry("registry.developers.crunchydata.com"),
    entry("registry.digitalocean.com"),
    entry("registry.fedoraproject.org"),
    entry("registry.gitlab.com"),
    entry("registry.k8s.io"),
    entry("registry.opensuse.org"),
    entry("registry.redhat.io"),
    entry("registry.suse.com"),
    entry("xpkg.upbound.io"),
    entry("*.gcr.io"),
    entry("*.icr.io"),
    entry("*.azurecr.io"),
    entry("*-docker.pkg.dev"),
    entry("*.dkr.ecr.*.amazonaws.com"),
];

/// The entry for a registry's canonical name.
pub(super) fn find(name: &str) -> Option<&'static WellKnown> {
    // The first part of every path is looked up; most are no host's name.
    if !name.contains('.') {
        return None;
    }
    TABLE.iter().find(|entry| matches(entry.name, name, '.'))
}

/// Whether `text` fits `pattern`, in which `*` stands for one or more characters but `stop`, and
/// `**` for any number of any.
pub(super) fn matches(pattern: &str, text: &str, stop: char) -> bool {
    let Some(star) = pattern.find('*') else {
        return pattern == text;
    };
    let (before, after) = pattern.split_at(star);
    let Some(text) = text.strip_prefix(before) else {
        return false;
    };
    if let Some(after) = after.strip_prefix("**") {
        return text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| matches(after, &text[at..], stop));
    }
    let after = &after[1..];
    text.char_indices()
        .take_while(|(_, c)| *c != stop)
        .map(|(at, c)| at + c.len_utf8())
        .any(|at| matches(after, &text[at..], stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed() {
        for name in [
            "docker.io",
            "eu.gcr.io",
            "us-central1-docker.pkg.dev",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in [
            "example.com",
            "a.b.gcr.io",
            "evilgcr.io",
            "gcr.io.evil.example",
            ".gcr.io",
            "-docker.pkg.dev",
            "gcr.io:5000",
            "x.dkr.ecr.amazonaws.com",
            "169.254.169.254",
        ] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("team/*", "team/app", true),
            ("team/*", "team/app/sub", false),
            ("team/**", "team/app/sub", true),
            ("team/**", "teams", false),
            ("**", "anything/at/all", true),
            ("a*c", "abbc", true),
            ("a*c", "ac", false),
            ("**/app", "x/y/app", true),
        ] {
            assert_eq!(matches(pattern, text, '/'), fits, "{pattern} {text}");
        }
    }
}
