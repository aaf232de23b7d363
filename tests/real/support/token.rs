//! A token server as docker-registry expects one: signed tokens (RS256, certificate in the header) for a scope.
//!
//! `library/...` may be read by anyone, everything else by [`ACCOUNT`] alone. GET with Basic and POST with a form
//! are both answered, as containerd asks by POST first when it has a password.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::{Lab, run};

/// The one user, and its password.
pub(crate) const ACCOUNT: (&str, &str) = ("alice", "correct-horse");
pub(crate) const SERVICE: &str = "test-registry";
pub(crate) const ISSUER: &str = "test-issuer";

/// A running token server.
pub(crate) struct TokenServer {
    addr: SocketAddr,
    signer: Arc<Signer>,
    ended: Arc<AtomicBool>,
    signed: Arc<AtomicUsize>,
}

/// The key that signs, and its certificate.
struct Signer {
    key: PathBuf,
    certificate: PathBuf,
    /// The certificate as the token's header carries it.
    x5c: String,
}

impl TokenServer {
    /// Makes a key and serves on a free port.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let signer = Arc::new(Signer::create(&lab.folder("token")?)?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self {
            addr: listener.local_addr()?,
            signer: Arc::clone(&signer),
            ended: Arc::default(),
            signed: Arc::default(),
        };
        let (ended, signed) = (Arc::clone(&server.ended), Arc::clone(&server.signed));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (signer, signed) = (Arc::clone(&signer), Arc::clone(&signed));
                std::thread::spawn(move || serve(&stream, &signer, &signed));
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn authority(&self) -> String {
        self.addr.to_string()
    }

    /// The address clients are sent to.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.addr)
    }

    /// The certificate that docker-registry trusts, in a file.
    pub(crate) fn certificate(&self) -> &Path {
        &self.signer.certificate
    }

    /// Tokens given out for the account, not for anyone.
    pub(crate) fn account_tokens(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Signer {
    fn create(folder: &Path) -> Result<Self> {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
            "-keyout",
        ]);
        run(
            openssl.arg(&key).arg("-out").arg(&certificate),
            Duration::from_secs(60),
        )?;
        let pem = std::fs::read_to_string(&certificate)?;
        let x5c = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        Ok(Self {
            key,
            certificate,
            x5c,
        })
    }

    fn token(&self, subject: &str, access: &serde_json::Value) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "iat": now, "nbf": now - 10, "exp": now + 300,
            "jti": now.to_string(), "access": access,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        openssl
            .stdin
            .take()
            .context("a pipe")?
            .write_all(signed.as_bytes())?;
        let output = openssl.wait_with_output()?;
        ensure!(output.status.success(), "openssl could not sign");
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(output.stdout)
        ))
    }
}

fn serve(stream: &TcpStream, signer: &Signer, signed: &AtomicUsize) {
    let (status, body) = match answer(stream, signer, signed) {
        Ok(body) => ("200 OK", body.to_string()),
        Err(error) => (
            "401 Unauthorized",
            json!({"details": error.to_string()}).to_string(),
        ),
    };
    let mut stream = stream;
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn answer(stream: &TcpStream, signer: &Signer, signed: &AtomicUsize) -> Result<serde_json::Value> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).context("a request line")?;
    let mut form = path
        .split_once('?')
        .map(|(_, query)| query.to_owned())
        .unwrap_or_default();
    let (mut account, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => {
                let basic = value
                    .strip_prefix("Basic ")
                    .context("only Basic is understood")?;
                account = Some(String::from_utf8(STANDARD.decode(basic)?)?);
            }
            "content-length" => length = value.parse()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    form = format!("{form}&{}", String::from_utf8(body)?);
    let fields: Vec<(String, String)> = form
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), decoded(v)))
        .collect();
    let field = |name: &str| {
        fields
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.clone())
    };
    if let (Some(user), Some(password)) = (field("username"), field("password")) {
        account = Some(format!("{user}:{password}"));
    }
    // podman and skopeo send an empty account where they have none.
    let account = account.filter(|account| account != ":");
    let known = format!("{}:{}", ACCOUNT.0, ACCOUNT.1);
    if account.as_ref().is_some_and(|account| *account != known) {
        bail!("wrong user or password");
    }
    if account.is_some() {
        signed.fetch_add(1, Ordering::Relaxed);
    }
    let scopes = fields
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' '));
    let access: Vec<_> = scopes
        .filter_map(|scope| granted(scope, account.is_some()))
        .collect();
    let token = signer.token(
        if account.is_some() { ACCOUNT.0 } else { "" },
        &json!(access),
    )?;
    Ok(json!({"token": token, "access_token": token, "expires_in": 300}))
}

/// What of `repository:NAME:actions` is given to whom.
fn granted(scope: &str, account: bool) -> Option<serde_json::Value> {
    let (name, _actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let allowed = account || name.starts_with("library/");
    allowed.then(|| json!({"type": "repository", "name": name, "actions": ["pull"]}))
}

/// Percent and plus decoding of a form's value.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&pair), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}
