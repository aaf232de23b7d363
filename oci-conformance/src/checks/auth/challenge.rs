//! Challenges as they are passed on, and as they are read.

use super::{image, private_image};
use crate::check::{Finding, Stop, must, skip};
use crate::client::{Challenge, Client, Site, challenges};
use crate::origin::{Ask, Fault, Reply};
use crate::stage::Stage;
use crate::stage::content::manifest_path;

pub(super) async fn is_passed_on(stage: &Stage) -> Finding {
    let private = private_image(stage, 1).await?;
    let origin = stage.origin()?;
    // A realm has a query of its own at some registries.
    origin.set_realm(&format!("{}/token?from=suite&odd=%2F%20+", origin.url()));
    let direct = Client::new(Site::parse(&origin.url()).map_err(Stop::Fail)?);
    for target in [
        private.by_tag(),
        private.by_digest(),
        private.layer_path(),
        format!("/v2/{}/tags/list", private.repository),
    ] {
        let told = challenges(&direct.ask("GET", &target).send().await?);
        let answer = stage.mirror.ask("GET", &target).send().await?;
        must!(
            answer.status == 401,
            "{target} is {}, not 401",
            answer.status
        );
        same(stage, &target, &told, &challenges(&answer))?;
    }
    // What a client without an account cannot answer is passed on as well, escapes and all.
    origin.reset();
    let repository = image(stage, 2).await?.repository;
    let fields = [
        format!(r#"realm="{}/token?a=b""#, origin.url()),
        r#"service="the \"suite\", or so""#.to_owned(),
        format!(r#"scope="repository:{repository}:pull repository:host.test:5000/other:pull""#),
    ];
    let own = repository.clone();
    let ask = Ask::of(move |seen| seen.repository == own);
    let line = format!("Bearer {}", fields.join(","));
    origin.when(ask).answer(Fault::Challenge(line));
    let target = manifest_path(&repository, "latest");
    let answer = stage.mirror.ask("GET", &target).send().await?;
    must!(
        answer.status == 401,
        "{target} is {}, not 401",
        answer.status
    );
    let lines: Vec<&str> = answer.headers("www-authenticate").collect();
    for field in fields {
        must!(
            lines.iter().any(|line| line.contains(&field)),
            "of a challenge with {field} the client gets {lines:?}"
        );
    }
    Ok(())
}

fn same(stage: &Stage, target: &str, told: &[Challenge], came: &[Challenge]) -> Finding {
    let own = stage.mirror.site().to_string();
    for (at, told) in told.iter().enumerate() {
        let Some(came) = came.get(at) else {
            must!(false, "{target}: of the challenge {told:?} nothing comes");
            continue;
        };
        let realm = came.parameter("realm").unwrap_or_default();
        if realm.starts_with(&own) || realm.starts_with('/') {
            skip!("it is its own token server: {realm}");
        }
        for name in ["realm", "service", "scope"] {
            let (sent, got) = (told.parameter(name), came.parameter(name));
            must!(
                told.scheme == came.scheme && sent == got,
                "{target}: {name} of the challenge is {got:?}, not {sent:?}"
            );
        }
    }
    Ok(())
}

/// A challenge, and what the token server must then be asked.
struct Form {
    what: &'static str,
    lines: Vec<String>,
    /// `None`: must not be sent.
    service: Option<&'static str>,
    /// `None`: none, or one for the repository.
    scope: Option<String>,
}

fn forms(realm: &str, repository: &str) -> Vec<Form> {
    let scope = format!("repository:{repository}:pull");
    let plain = format!(r#"Bearer realm="{realm}",service="suite",scope="{scope}""#);
    let digest = r#"Digest realm="d, e", nonce="Bearer realm=\"x\"", qop="auth,auth-int""#;
    // Lines of one answer are parted by line ends here.
    let forms = [
        ("the usual form", plain.clone()),
        ("an unquoted service", plain.replace("\"suite\"", "suite")),
        (
            "Basic before Bearer in one line",
            format!(r#"Basic realm="a, b", {plain}"#),
        ),
        (
            "Bearer before Basic in one line",
            format!(r#"{plain}, Basic realm="other""#),
        ),
        (
            "Basic and Bearer in two lines",
            format!("Basic realm=\"a\"\n{plain}"),
        ),
        (
            "unknown schemes in lines of their own",
            format!("Negotiate\n{digest}\n{plain}"),
        ),
        (
            "unknown schemes in the same line",
            format!("Negotiate dG9rZW4=, {digest}, {plain}"),
        ),
        (
            "an empty scope",
            format!(r#"Bearer realm="{realm}",service="suite",scope="""#),
        ),
        (
            "odd case and spaces",
            format!(r#"bEARER Scope = "{scope}" ,REALM="{realm}" , Service = "suite""#),
        ),
    ];
    let form = |(what, text): (_, String)| Form {
        what,
        lines: text.lines().map(str::to_owned).collect(),
        service: Some("suite"),
        scope: None,
    };
    let mut all: Vec<Form> = forms.into_iter().map(form).collect();
    let aws = plain.replace(&scope, "aws");
    all.push(Form {
        scope: Some("aws".to_owned()),
        ..form(("the scope `aws`", aws))
    });
    let escaped = plain.replace("\"suite\"", r#""a \"b\", c""#);
    all.push(Form {
        service: Some(r#"a "b", c"#),
        ..form(("escaped quotes", escaped))
    });
    let without = plain.replace(",service=\"suite\"", "");
    all.push(Form {
        service: None,
        ..form(("no service", without))
    });
    all
}

pub(super) async fn is_read_in_every_form(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let count = forms("", "").len();
    for at in 0..count {
        let image = image(stage, 10 + at as u64).await?;
        // A token server of its own for each form, so that no earlier token answers it.
        let path = format!("/auth/{}/{at}", image.repository);
        let realm = format!("{}{path}?kept=yes", origin.url());
        let token = format!("form-{at}");
        origin.serve_at(&path, format!(r#"{{"token":"{token}","expires_in":300}}"#));
        let form = forms(&realm, &image.repository).swap_remove(at);
        let reply = form.lines.iter().fold(Reply::new(401), |reply, line| {
            reply.header("WWW-Authenticate", line)
        });
        let ask = super::without(&image.repository, &format!("Bearer {token}"));
        origin.when(ask).answer(Fault::Reply(reply));
        let answer = stage.mirror.ask("GET", &image.layer_path()).send().await?;
        let asked = origin.seen(Ask::path(&path));
        if at == 0 && answer.status == 401 && asked.is_empty() {
            skip!("it leaves every challenge to its clients");
        }
        let (what, lines) = (form.what, &form.lines);
        must!(
            answer.status == 200,
            "{what}: {} to a client, after {} requests at the token server; the challenge was {lines:?}",
            answer.status,
            asked.len()
        );
        for seen in asked {
            let service = seen.parameter("service");
            must!(
                service.as_deref().unwrap_or_default() == form.service.unwrap_or_default(),
                "{what}: the token server is asked with service {service:?}"
            );
            must!(
                seen.parameter("kept").as_deref() == Some("yes"),
                "{what}: the realm's own query is lost: {}",
                seen.query
            );
            if form.scope.is_some() {
                let scope = seen.parameter("scope");
                must!(
                    scope == form.scope,
                    "{what}: the token server is asked with scope {scope:?}"
                );
            }
        }
        origin.behave();
    }
    Ok(())
}
