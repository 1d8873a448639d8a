//! A fetch session (KIP-227): the broker remembers the partitions, requests and answers carry changes only.
//!
//! A broker without room for a session answers with session id 0; every request then names all partitions again, which
//! is always correct.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::table::Wanted;

/// What the broker was last told about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) slot: u64,
    pub(crate) generation: u64,
    pub(crate) ticket: u64,
    pub(crate) offset: i64,
    leader_epoch: i32,
    /// the request that last wanted it
    request: u64,
}

/// What one request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    /// indexes into the wanted partitions
    pub(crate) send: Vec<usize>,
    /// partitions that the broker shall forget: topic, topic id (one of the two counts) and partition
    pub(crate) forgotten: Vec<(Arc<str>, Uuid, i32)>,
}

type Partitions = HashMap<i32, Asked>;

/// One broker's session. Partitions are known by topic id where the version has ids, else by topic name.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    epoch: i32,
    request: u64,
    by_id: bool,
    names: HashMap<Arc<str>, Partitions>,
    ids: HashMap<Uuid, Partitions>,
}

impl Session {
    /// The next request for `wanted`; `by_id` says whether its version names topics by id.
    pub(crate) fn plan(&mut self, wanted: &[Wanted], by_id: bool) -> Plan {
        if self.by_id != by_id {
            // a session cannot mix the two (error 106)
            self.restart();
            self.by_id = by_id;
        }
        if self.epoch == 0 {
            self.names.clear();
            self.ids.clear();
        }
        self.request += 1;
        let send =
            wanted.iter().enumerate().filter_map(|(index, one)| self.ask(one).then_some(index)).collect();
        let forgotten = self.forget();
        Plan { session_id: self.id, session_epoch: self.epoch, send, forgotten }
    }

    /// Notes what a good response said about the session.
    pub(crate) fn answered(&mut self, session_id: i32) {
        self.epoch = match (session_id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
        self.id = session_id;
    }

    /// Begins a new session in place of this one, which the broker may still hold.
    pub(crate) fn restart(&mut self) {
        self.epoch = 0;
    }

    /// Begins anew after the broker said that it does not have this session.
    pub(crate) fn lost(&mut self) {
        self.id = 0;
        self.epoch = 0;
    }

    /// The partition that a response means.
    pub(crate) fn find(&self, topic: &str, topic_id: Uuid, partition: i32) -> Option<&Asked> {
        let topic = if self.by_id { self.ids.get(&topic_id) } else { self.names.get(topic) };
        topic?.get(&partition)
    }

    /// Whether the broker has to be told about this partition.
    fn ask(&mut self, wanted: &Wanted) -> bool {
        let one = &wanted.target;
        let asked = Asked {
            ticket: wanted.ticket,
            slot: one.slot,
            generation: one.generation,
            offset: one.offset,
            leader_epoch: one.leader_epoch,
            request: self.request,
        };
        let topic = if self.by_id {
            self.ids.entry(one.topic_id).or_default()
        } else if let Some(topic) = self.names.get_mut(&one.topic) {
            topic
        } else {
            self.names.entry(Arc::clone(&one.topic)).or_default()
        };
        let before = topic.insert(one.partition, asked);
        before.is_none_or(|before| (before.offset, before.leader_epoch) != (asked.offset, asked.leader_epoch))
    }

    /// Drops the partitions that this request did not want.
    fn forget(&mut self) -> Vec<(Arc<str>, Uuid, i32)> {
        let request = self.request;
        let mut gone = Vec::new();
        let mut drop_from = |partitions: &mut Partitions, topic: &Arc<str>, id: Uuid| {
            partitions.retain(|partition, asked| {
                let wanted = asked.request == request;
                if !wanted {
                    gone.push((Arc::clone(topic), id, *partition));
                }
                wanted
            });
            !partitions.is_empty()
        };
        self.names.retain(|topic, partitions| drop_from(partitions, topic, Uuid::nil()));
        let nameless: Arc<str> = Arc::from("");
        self.ids.retain(|id, partitions| drop_from(partitions, &nameless, *id));
        gone
    }
}

#[cfg(test)]
mod tests;
