//! What `ns` means.

use super::{at, heeds_ns, of};
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::origin::{Ask, Kind, content};
use crate::stage::content::{MANIFEST, blob_path, manifest_path};
use crate::stage::user::READER;
use crate::stage::{Sample, Scripted, Stage};

pub(super) async fn known(stage: &Stage) -> Finding {
    let Ok(scripted) = stage.scripted() else {
        return confirmed(stage).await;
    };
    heeds_ns(stage).await?;
    let repository = stage.repository();
    // The same name and tag, and other bytes, at each.
    let one = stage
        .image_in(&repository, "latest", &[content(0xB010, 2048)])
        .await?;
    let two = scripted
        .second
        .push_image(&repository, "latest", &[&content(0xB011, 2048)]);
    for (ns, digest, layer) in [
        (&scripted.name, &one.digest, &one.layers[0].digest),
        (&scripted.second_name, &two.manifest, &two.layers[0]),
    ] {
        for target in [
            manifest_path(&repository, "latest"),
            manifest_path(&repository, digest),
            blob_path(&repository, layer),
            format!("/v2/{repository}/tags/list"),
        ] {
            for method in ["HEAD", "GET"] {
                if method == "HEAD" && target.ends_with("/list") {
                    continue;
                }
                let request = stage.mirror.ask(method, &at(&target, ns));
                let answer = request.send().await?;
                must!(
                    answer.status == 200,
                    "{method} {target} of {ns}: {}",
                    answer.status
                );
                says(&answer, &target, ns)?;
                let came = answer.header("docker-content-digest").unwrap_or_default();
                let right = target.ends_with("/list") || came == digest || came == layer;
                must!(right, "{method} {target} of {ns} is {came}");
            }
        }
    }
    Ok(())
}

/// Where the registry behind is not ours: only what the answer says can be told.
async fn confirmed(stage: &Stage) -> Finding {
    let Some(ns) = stage.mirror.namespace() else {
        skip!("needs --namespace or scripted origins");
    };
    let image = stage.image().await?;
    let answer = stage.mirror.ask("GET", &image.by_tag()).send().await?;
    must!(answer.status == 200, "{} for {ns}", answer.status);
    if answer.header("oci-namespace").is_none() {
        skip!("whether it uses ns cannot be told: there is no OCI-Namespace");
    }
    says(&answer, &image.by_tag(), ns)
}

fn says(answer: &Response, target: &str, ns: &str) -> Finding {
    let said = answer.header("oci-namespace");
    must!(
        said == Some(ns),
        "{target} with ns={ns} has OCI-Namespace {said:?}"
    );
    Ok(())
}

pub(super) async fn unknown(stage: &Stage) -> Finding {
    let scripted = heeds_ns(stage).await?;
    let image = stage.image().await?;
    // A name that leads to the second origin if somebody dials it, and names that lead nowhere.
    let port = scripted.second.addr().port();
    let dialled = format!("localhost:{port}");
    let own = format!("localhost:{}", scripted.first.addr().port());
    scripted.first.forget_requests();
    scripted.second.forget_requests();
    for ns in [
        "unknown.conformance.test",
        &dialled,
        &own,
        &format!("x.{}", scripted.name),
        &format!("{}.evil.test", scripted.name),
        &format!("{}:5000", scripted.name),
        "localhost",
    ] {
        for target in [
            image.by_tag(),
            image.layer_path(),
            format!("/v2/{}/tags/list", image.repository),
        ] {
            let answer = stage.mirror.ask("GET", &at(&target, ns)).send().await?;
            must!(
                (400..500).contains(&answer.status),
                "{target} with the unknown ns {ns}: {}",
                answer.status
            );
        }
    }
    nobody_asked(scripted, "an unknown ns")
}

fn nobody_asked(scripted: &Scripted, what: &str) -> Finding {
    for origin in [&scripted.first, &scripted.second] {
        let seen = origin.seen(Ask::any());
        if let Some(seen) = seen.first() {
            must!(false, "for {what} an origin was asked {seen}");
        }
    }
    Ok(())
}

pub(super) async fn malformed(stage: &Stage) -> Finding {
    let scripted = heeds_ns(stage).await?;
    let image = stage.image().await?;
    let (name, second) = (&scripted.name, &scripted.second_name);
    let addr = scripted.second.addr();
    scripted.first.forget_requests();
    scripted.second.forget_requests();
    let mut queries = vec!["ns=".to_owned(), "ns".to_owned()];
    queries.push(format!("ns={name}&ns={second}"));
    queries.push(format!("ns={name}&ns={name}"));
    queries.push(format!("ns={name}&n%73={second}"));
    for ns in [
        format!("http://{addr}"),
        format!("http%3A%2F%2F{addr}"),
        format!("//{addr}"),
        format!("user@{name}"),
        format!("user:pass@{addr}"),
        format!("{name}%40{addr}"),
        format!("{name}/{addr}"),
        format!("{name}%2Fv2"),
        format!("{name}%0d%0aX-Injected:%20yes"),
        format!("{name}%00"),
        format!("{name}%20"),
        format!("{name}%23"),
        format!("{name}%3Fx=y"),
        format!("{name}:0x50"),
        format!("{name}:99999"),
        format!("{name}:-1"),
        format!("{name}:"),
        format!("{name}.."),
        format!("..%2F{name}"),
        addr.to_string(),
        format!("127.0.0.1%3A{}", addr.port()),
        "127.0.0.1".to_owned(),
        "[::1]".to_owned(),
        format!("[::1]:{}", addr.port()),
        "169.254.169.254".to_owned(),
        "2130706433".to_owned(),
    ] {
        queries.push(format!("ns={ns}"));
    }
    for query in queries {
        let target = format!("{}?{query}", image.by_tag());
        let answer = stage.mirror.request("GET", &target).send().await?;
        must!(
            (400..500).contains(&answer.status),
            "`{query}` is answered {}, not refused",
            answer.status
        );
        must!(
            answer.header("x-injected").is_none(),
            "`{query}` adds a header to the answer"
        );
    }
    nobody_asked(scripted, "an ns that is no registry's name")
}

/// An image at the first origin that the mirror finds as Docker Hub's.
async fn hub(stage: &Stage, seed: u64) -> Result<Sample, Stop> {
    let image = stage
        .image_in(
            &stage.repository(),
            "latest",
            &[content(0xB020 + seed, 2048)],
        )
        .await?;
    let target = at(&image.by_digest(), "docker.io");
    let answer = stage.mirror.request("GET", &target).send().await?;
    if answer.status != 200 || answer.body != image.manifest {
        skip!("needs a mirror for which docker.io is {{upstream}}");
    }
    Ok(image)
}

pub(super) async fn hub_is_one(stage: &Stage) -> Finding {
    let scripted = heeds_ns(stage).await?;
    let image = hub(stage, 0).await?;
    let origin = &scripted.first;
    let target = at(&image.layer_path(), "docker.io");
    let cached = stage.mirror.request("GET", &target).send().await?;
    must!(
        cached.status == 200,
        "{target} is {}, not 200",
        cached.status
    );
    origin.forget_requests();
    for ns in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "DOCKER.IO",
        "Index.Docker.io",
        "docker.io:443",
        "docker.io%3A443",
        "registry-1.docker.io:443",
    ] {
        for target in [image.by_digest(), image.by_tag(), image.layer_path()] {
            let answer = stage.mirror.ask("GET", &at(&target, ns)).send().await?;
            must!(
                answer.status == 200,
                "{target} of {ns}: {}, though docker.io has it",
                answer.status
            );
        }
    }
    // One registry: what is cached of it is cached under all its names.
    let digests = [image.digest.clone(), image.layers[0].digest.clone()];
    let again = origin.seen(Ask::any().get().and(move |seen| match &seen.kind {
        Kind::Manifest(reference) => digests[0] == *reference,
        Kind::Blob(digest) => digests[1] == *digest,
        _ => false,
    }));
    if let Some(first) = again.first() {
        must!(
            false,
            "under its other names the cached image was fetched {} times more, first by {first}",
            again.len()
        );
    }
    Ok(())
}

pub(super) async fn never_mixed(stage: &Stage) -> Finding {
    let scripted = heeds_ns(stage).await?;
    let (first, second) = (&scripted.first, &scripted.second);
    let repository = stage.repository();
    let one = stage
        .image_in(&repository, "latest", &[content(0xB030, 2048)])
        .await?;
    let two = second.push_image(&repository, "latest", &[&content(0xB031, 2048)]);
    let path = manifest_path(&repository, "latest");
    for _ in 0..2 {
        for (ns, digest) in [
            (&scripted.name, &one.digest),
            (&scripted.second_name, &two.manifest),
        ] {
            let answer = stage.mirror.ask("GET", &at(&path, ns)).send().await?;
            let came = answer.header("docker-content-digest");
            must!(
                answer.status == 200 && came == Some(digest),
                "{path} of {ns} is {} {came:?}, not {digest}",
                answer.status
            );
        }
    }
    // What the other one has is not here, by tag, by digest and as a blob; and it stays there.
    second.tag(&repository, "there", &two.manifest);
    for target in [
        manifest_path(&repository, "there"),
        manifest_path(&repository, &two.manifest),
        blob_path(&repository, &two.layers[0]),
    ] {
        for (ns, status) in [
            (&scripted.name, 404),
            (&scripted.second_name, 200),
            (&scripted.name, 404),
        ] {
            let answer = stage.mirror.ask("GET", &at(&target, ns)).send().await?;
            must!(
                answer.status == status,
                "{target} of {ns} is {}, not {status}",
                answer.status
            );
        }
    }
    // The same blob is everybody's there and a reader's here.
    let private = stage.repository();
    let bytes = content(0xB032, 2048);
    let digest = second.push_blob(&private, bytes.clone());
    stage.blob(&private, bytes).await?;
    READER.owns(stage, &private)?;
    first.require_tokens();
    let target = blob_path(&private, &digest);
    let open = stage.mirror.ask("GET", &of(scripted, &target));
    let open = open.send().await?.status;
    must!(open == 200, "a public blob of the second registry: {open}");
    let closed = stage.mirror.ask("GET", &at(&target, &scripted.name));
    let closed = closed.send().await?.status;
    must!(
        matches!(closed, 401 | 403),
        "the private repository of that name at the first registry: {closed}"
    );
    Ok(())
}

pub(super) async fn not_passed_on(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image().await?;
    let repository = &image.repository;
    for target in [
        image.by_tag(),
        image.by_digest(),
        image.layer_path(),
        format!("/v2/{repository}/tags/list?n=1"),
        format!("/v2/{repository}/referrers/{}", image.digest),
    ] {
        for method in ["HEAD", "GET"] {
            stage.mirror.ask(method, &target).send().await?;
        }
    }
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let push = stage.mirror.ask("POST", &uploads).send().await?;
    must!(
        matches!(push.status, 202 | 401 | 403 | 405),
        "a push with ns is answered {}",
        push.status
    );
    let put = stage
        .mirror
        .ask("PUT", &manifest_path(repository, "pushed"))
        .header("Content-Type", MANIFEST)
        .body(image.manifest.clone());
    let put = put.send().await?;
    must!(
        matches!(put.status, 201 | 401 | 403 | 405),
        "a manifest's push with ns is answered {}",
        put.status
    );
    let named = Ask::of(|seen| seen.parameter("ns").is_some());
    if let Some(seen) = origin.seen(named).first() {
        must!(false, "ns was passed on: {seen}");
    }
    Ok(())
}

pub(super) async fn single_part(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    let origin = &scripted.first;
    hub(stage, 1).await?;
    let layer = content(0xB040, 2048);
    // One name that exists only with library/, one that exists only without.
    let under = origin.push_image("library/suite-prx-10-under", "latest", &[&layer]);
    let bare = origin.push_image("suite-prx-10-bare", "latest", &[&layer]);
    let mut adds = Vec::new();
    for (name, image) in [("suite-prx-10-under", under), ("suite-prx-10-bare", bare)] {
        let mut statuses = Vec::new();
        for target in [
            manifest_path(name, "latest"),
            manifest_path(name, &image.manifest),
            blob_path(name, &image.layers[0]),
            format!("/v2/{name}/tags/list"),
        ] {
            let target = at(&target, "docker.io");
            let answer = stage.mirror.request("GET", &target).send().await?;
            must!(
                matches!(answer.status, 200 | 404),
                "{target}: {}",
                answer.status
            );
            let said = answer.json()["name"].clone();
            let listed = !target.contains("/tags/") || answer.status != 200;
            must!(
                listed || said == name,
                "the tags of {name} are those of {said}"
            );
            statuses.push(answer.status);
        }
        must!(
            statuses.iter().all(|status| *status == statuses[0]),
            "manifest by tag and digest, blob and tags of {name} are {statuses:?}: two repositories"
        );
        adds.push(statuses[0] == 200);
    }
    must!(
        adds[0] || adds[1],
        "neither library/NAME nor NAME is found under docker.io"
    );
    origin.forget_requests();
    let name = "suite-prx-10-bare";
    let elsewhere = at(&manifest_path(name, "latest"), &scripted.name);
    let answer = stage.mirror.request("GET", &elsewhere).send().await?;
    let changed = origin.seen(Ask::of(move |seen| {
        seen.repository.contains(name) && seen.repository != name
    }));
    must!(
        answer.status == 200 && changed.is_empty(),
        "{elsewhere} is {}, and was asked as {:?}",
        answer.status,
        changed.first().map(|seen| seen.path.clone())
    );
    Ok(())
}
