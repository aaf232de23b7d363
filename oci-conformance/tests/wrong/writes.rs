//! Writes through the mirror of these tests: relayed, with their Location brought home.

use crate::flaw::Flaw;
use crate::mirror::{Meant, Mirror};
use crate::wire::Reply;

impl Mirror {
    pub(crate) async fn write(&self, meant: &Meant<'_>) -> Reply {
        if let Some(reply) = self.wrongly_written(meant) {
            return reply;
        }
        let answer = self.ask(meant, &meant.asked.method).await;
        let place = answer.header("location").map(str::to_owned);
        let mut reply = self.relay(meant, answer);
        if reply.status == 416 && self.is(Flaw::RangeErrorsAre400) {
            reply.status = 400;
        }
        let Some(place) = place else { return reply };
        let own = meant.upstream.site().to_string();
        let ours = match place.strip_prefix(&own) {
            _ if self.is(Flaw::LeavesLocation) => place.clone(),
            Some(path) => path.to_owned(),
            None if place.starts_with('/') && self.is(Flaw::LocationFromHost) => {
                let host = meant.asked.header("host").unwrap_or_default();
                format!("http://{host}{place}")
            }
            None if place.starts_with('/') => place.clone(),
            None => return Reply::error(502, "UNSUPPORTED"),
        };
        let sign = if ours.contains('?') { '&' } else { '?' };
        match meant.asked.parameter("ns") {
            Some(ns) if ours.contains("/uploads/") => {
                reply.header("Location", &format!("{ours}{sign}ns={ns}"))
            }
            _ => reply.header("Location", &ours),
        }
    }

    /// What is answered without upstream's knowledge.
    fn wrongly_written(&self, meant: &Meant<'_>) -> Option<Reply> {
        let asked = meant.asked;
        let method = asked.method.as_str();
        let location = || Reply::new(201).header("Location", &meant.path);
        if method == "PUT" && self.is(Flaw::TakesAnyDigest) && asked.parameter("digest").is_some() {
            return Some(location());
        }
        if method == "PUT" && self.is(Flaw::SmallManifests) && asked.body.len() > 1 << 20 {
            return Some(Reply::error(400, "MANIFEST_INVALID"));
        }
        if method == "DELETE" && self.is(Flaw::CancelsForShow) && meant.path.contains("/uploads/") {
            return Some(Reply::new(204));
        }
        if method == "DELETE" && self.is(Flaw::DeletesForShow) {
            return Some(Reply::new(202));
        }
        if method == "DELETE" && self.is(Flaw::DeletesFromCacheFirst) {
            self.bytes.lock().unwrap().clear();
        }
        let mounted = asked.parameter("mount");
        if self.is(Flaw::RefusesMounts) && mounted.is_some() {
            return Some(Reply::error(404, "BLOB_UNKNOWN"));
        }
        let digest = mounted.filter(|_| self.is(Flaw::MountsFromCache))?;
        let held = self.bytes.lock().unwrap().contains_key(&digest);
        held.then(location)
    }
}
