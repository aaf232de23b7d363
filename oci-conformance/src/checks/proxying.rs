//! One mirror before many registries: whom a request means, and what must not change that.

mod names;
mod targets;

use crate::check::{Check, Stop, check, skip};
use crate::origin::content;
use crate::stage::content::blob_path;
use crate::stage::{Scripted, Stage};

pub(super) const CHECKS: &[Check] = &[
    check!(Proxying 1 Should, "distribution-spec main, Registry Proxying", "a known ns leads to its registry, and OCI-Namespace says so", names::known),
    check!(Proxying 2 Own, "own: a name from outside must not make a mirror dial", "an unknown ns is answered 4xx and nobody is asked for it", names::unknown),
    check!(Proxying 3 Own, "own: ns is a host's name and nothing else", "an ns that is no registry's name, or that is given twice, is refused", names::malformed),
    check!(Proxying 4 Own, "own: clients write Docker Hub in three ways", "docker.io, index.docker.io and registry-1.docker.io are one, whatever the case, with and without the port", names::hub_is_one),
    check!(Proxying 5 Own, "own: the same name at two registries is two repositories", "tags, rights and absences of one registry do not count at another", names::never_mixed),
    check!(Proxying 6 Own, "distribution-spec main, Registry Proxying: ns is not for registries that are no proxies", "ns is not passed on to the registry, and is accepted on a push", names::not_passed_on),
    check!(Proxying 7 Own, "own: Host and Forwarded are the client's words", "Host, X-Forwarded-Host and Forwarded change neither upstream nor Location, Link and realm", targets::hosts_are_not_believed),
    check!(Proxying 8 Own, "own: one path, one meaning, for the mirror and for whoever stands before and behind it", "escaped slashes, dot segments, double slashes, NUL and foreign absolute targets find nothing", targets::odd_paths),
    check!(Proxying 9 Own, "own: RFC 9110, 7.6.3 has Via for this", "a request that comes round to the mirror again is refused, and a loop ends", targets::loops_end),
    check!(Proxying 10 Own, "own: the name that a client writes is one repository, for whatever it asks", "a Hub name of one part means the same repository for manifests, blobs and tags, and elsewhere nothing is added", names::single_part),
];

/// Goes on only where `ns` is heeded: any registry may ignore it.
async fn heeds_ns(stage: &Stage) -> Result<&Scripted, Stop> {
    let scripted = stage.scripted()?;
    let repository = stage.repository();
    let bytes = content(0xB000, 512);
    let digest = scripted.second.push_blob(&repository, bytes.clone());
    let target = of(scripted, &blob_path(&repository, &digest));
    let answer = stage.mirror.ask("GET", &target).send().await?;
    let confirmed = answer.header("oci-namespace").is_some();
    if !confirmed && (answer.status != 200 || answer.body != bytes) {
        skip!("it ignores ns, as any registry may");
    }
    Ok(scripted)
}

/// The same path at the second registry.
fn of(scripted: &Scripted, path: &str) -> String {
    at(path, &scripted.second_name)
}

fn at(path: &str, ns: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}ns={ns}")
}
