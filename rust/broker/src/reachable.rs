//! The live brokers as one client reaches them: by the listener that it asked on.

use crate::image::{Image, ImageBroker};
use crate::request::context::RequestContext;

/// The brokers of an image, for who asks.
pub(crate) struct Reachable<'a> {
    image: &'a Image,
    own_id: i32,
    listener: &'a str,
    /// Where this broker is, unless it advertises another address: where the client is connected to.
    own: (String, u16),
    /// Ids of those that have the listener, ascending.
    ids: Vec<i32>,
}

impl<'a> Reachable<'a> {
    /// The brokers of `image` for a client of the broker `own_id`, which it reaches in any case.
    pub(crate) fn new(image: &'a Image, own_id: i32, context: &'a RequestContext) -> Self {
        let listener = &*context.listener;
        let own = match context.local_address {
            Some(address) => (address.ip().to_string(), address.port()),
            None => (listener.host.clone(), listener.port),
        };
        let others = image.brokers.iter().filter(|it| it.endpoints.contains_key(&listener.name));
        let mut ids: Vec<_> = others.map(|it| it.id).chain([own_id]).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { image, own_id, listener: &listener.name, own, ids }
    }

    /// Host and port of a broker; None when it has no such listener.
    pub(crate) fn endpoint(&'a self, broker: &'a ImageBroker) -> Option<(&'a str, u16)> {
        let published = broker.endpoints.get(self.listener).map(|(host, port)| (host.as_str(), *port));
        let is_own = broker.id == self.own_id;
        published.or_else(|| is_own.then_some((self.own.0.as_str(), self.own.1)))
    }

    /// Whether a broker lives and has the listener.
    pub(crate) fn has(&self, broker_id: i32) -> bool {
        self.ids.binary_search(&broker_id).is_ok()
    }

    /// Whether a broker lives, by whatever listener it is reached.
    pub(crate) fn is_live(&self, broker_id: i32) -> bool {
        broker_id == self.own_id || self.image.broker(broker_id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::context::{Listener, ListenerProtocol};
    use std::sync::Arc;

    #[test]
    fn a_broker_without_the_listener_lives_and_is_not_reached() {
        let named = |id, listener: &str| ImageBroker {
            id,
            endpoints: [(listener.to_owned(), (format!("host-{id}"), 9))].into(),
            ..ImageBroker::default()
        };
        let brokers =
            vec![ImageBroker { id: 1, ..Default::default() }, named(2, "PLAINTEXT"), named(3, "ZMQ")];
        let mut image = Image::default();
        image.brokers = brokers;
        let listener = Listener {
            name: "PLAINTEXT".to_owned(),
            protocol: ListenerProtocol::Plaintext,
            inter_broker: false,
            host: "here".to_owned(),
            port: 7,
        };
        let context = RequestContext {
            listener: Arc::new(listener),
            principal: "User:ANONYMOUS".into(),
            client_address: None,
            local_address: None,
            connection_id: 1,
        };
        let reachable = Reachable::new(&image, 1, &context);
        let endpoints: Vec<_> = image.brokers.iter().map(|it| reachable.endpoint(it)).collect();
        assert_eq!(endpoints, [Some(("here", 7)), Some(("host-2", 9)), None]);
        assert_eq!([1, 2, 3, 4].map(|id| reachable.has(id)), [true, true, false, false]);
        assert_eq!([1, 2, 3, 4].map(|id| reachable.is_live(id)), [true, true, true, false]);
    }
}
