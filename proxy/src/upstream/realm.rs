//! Which token servers belong to a registry.

pub(super) struct Realms {
    allowed: Vec<String>,
}

impl Realms {
    pub(super) fn new(allowed: &[String]) -> Self {
        Self {
            allowed: allowed.to_vec(),
        }
    }
}
