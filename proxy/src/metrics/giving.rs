//! What a node gives to others.

use ::http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Labels, labels};

pub(super) struct Giving {
    pub(super) bytes: Counter,
    requests: Vec<Counter>,
}

impl Giving {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let bytes = Counter::default();
        registry.register_with_unit(
            "given",
            "Blob bytes given to other nodes",
            Unit::Bytes,
            bytes.clone(),
        );
        let requests = Family::<Labels<1>, Counter>::default();
        registry.register(
            "peer_requests",
            "Requests of other nodes answered, by class of status",
            requests.clone(),
        );
        let requests =
            labels::CLASSES.map(|class| requests.get_or_create_owned(&[("status", class)]));
        Self {
            bytes,
            requests: requests.into(),
        }
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.requests[labels::class(status)].inc();
    }
}
