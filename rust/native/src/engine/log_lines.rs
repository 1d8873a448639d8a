//! Log lines on their way to Python: those that the broker queues, and what the crates say by `tracing`.
//!
//! `tracing` has one subscriber a process, so its lines go to the broker that was made last and is alive.

use fastlog_broker::{Broker, Event, Level};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Once, Weak};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

/// Level, text, fields.
pub(super) type Line = (&'static str, String, HashMap<&'static str, String>);

/// The text of events whose own text is among their fields, as `tracing` hands it over.
const SAID: &str = "log";

/// The line of an event.
pub(super) fn line(event: Event) -> Line {
    let mut fields: HashMap<_, _> = event.fields.into_iter().collect();
    let said = if event.message == SAID { fields.remove("message") } else { None };
    (event.level.name(), said.unwrap_or_else(|| event.message.to_owned()), fields)
}

static FOLLOWERS: Mutex<Vec<Weak<Broker>>> = Mutex::new(Vec::new());
static SUBSCRIBE: Once = Once::new();

/// Has what is said by `tracing` from now on queued with `broker`'s events.
pub(super) fn follow(broker: &Arc<Broker>) {
    let mut followers = FOLLOWERS.lock();
    followers.retain(|it| it.strong_count() > 0);
    followers.push(Arc::downgrade(broker));
    // a program that embeds a broker may have a subscriber of its own: then the lines are there
    SUBSCRIBE.call_once(|| {
        let _already_set = tracing::subscriber::set_global_default(ToEvents);
    });
}

struct ToEvents;

impl Subscriber for ToEvents {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("fastlog")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let follower = FOLLOWERS.lock().iter().rev().find_map(Weak::upgrade);
        let Some(broker) = follower else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            _ => Level::Info,
        };
        broker.events().push(level, SAID, fields.found);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    found: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.found.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.found.push((field.name(), value.to_owned()));
    }
}
