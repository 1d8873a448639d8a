//! Records that somebody was sent and doubts: a consumer that fetched them again and again, or a follower that says so.
//!
//! They are looked at within a second or two, also where the scrub is off, or in the middle of a segment: a look reads one
//! batch. Where that is bad its segment is checked, at the rate of the scrub and before the next segment of a pass. What
//! could not be judged is told and tried again a few times; after that it waits for whoever doubts it once more.

use super::{NOT_SCRUBBED, Scrubber, tell_damage, tell_error};
use crate::broker::Broker;
use crate::events::Level;
use crate::pace::Throttle;
use crate::partition::Partition;
use fastlog_log::Pace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Doubts that may wait; whoever has one that is not among them fetches again, and has it again.
const DOUBTS_MAX: usize = 64;
/// So often a doubt is tried that cannot be judged, with so much time between.
const TRIES_MAX: u32 = 3;
const RETRY: Duration = Duration::from_secs(1);

/// What is to be looked at.
#[derive(Default)]
pub(crate) struct Doubts(Mutex<Vec<Doubt>>);

struct Doubt {
    partition: Arc<Partition>,
    offset: i64,
    /// Whoever has it compared more than a checksum, so the segment is checked whatever the look says.
    is_sure: bool,
    /// Where the segment starts that is to be checked; `None` before the look.
    segment: Option<i64>,
    tries: u32,
    not_before: Option<Instant>,
}

impl Doubt {
    fn is_same(&self, other: &Self) -> bool {
        let places = [self, other].map(|it| it.segment.ok_or(it.offset));
        Arc::ptr_eq(&self.partition, &other.partition) && places[0] == places[1]
    }
}

impl Doubts {
    /// Has the batch at an offset looked at soon; false where too much waits already. Cheap.
    pub(crate) fn note(&self, partition: &Arc<Partition>, offset: i64, is_sure: bool) -> bool {
        let partition = partition.clone();
        self.put(Doubt { partition, offset, is_sure, segment: None, tries: 0, not_before: None })
    }

    fn put(&self, doubt: Doubt) -> bool {
        let mut doubts = self.0.lock();
        if let Some(known) = doubts.iter_mut().find(|it| it.is_same(&doubt)) {
            known.is_sure |= doubt.is_sure;
            return true;
        }
        let has_room = doubts.len() < DOUBTS_MAX;
        if has_room {
            doubts.push(doubt);
        }
        has_room
    }

    fn put_back(&self, mut doubt: Doubt) {
        doubt.tries += 1;
        doubt.not_before = Some(Instant::now() + RETRY);
        if doubt.tries < TRIES_MAX {
            self.put(doubt);
        }
    }

    /// The first one that is due, of those that were looked at or of the others.
    fn take(&self, is_looked_at: bool) -> Option<Doubt> {
        let (now, mut doubts) = (Instant::now(), self.0.lock());
        doubts.retain(|it| !it.partition.is_deleted());
        let is_due =
            |it: &Doubt| it.segment.is_some() == is_looked_at && it.not_before.is_none_or(|due| due <= now);
        doubts.iter().position(is_due).map(|index| doubts.remove(index))
    }
}

impl Scrubber {
    /// Looks at what is doubted. Blocks on the disk, for one batch each.
    pub(super) fn look_at_doubts(&self, broker: &Broker) {
        while !self.brake.is_stopped() {
            let Some(mut doubt) = broker.doubts.take(false) else { return };
            let (partition, offset) = (doubt.partition.clone(), doubt.offset);
            let looked = partition.log().look_at(offset);
            let is_bad = doubt.is_sure || matches!(looked, Ok(Some(_)));
            match looked {
                Ok(damages) => {
                    if damages.is_some() && !doubt.is_sure {
                        tell_sent_again(broker, &partition, offset);
                    }
                    damages.iter().flatten().for_each(|damage| tell_damage(broker, &partition, damage));
                    doubt.segment = partition.log().segment_of(offset).filter(|_| is_bad);
                    if doubt.segment.is_some() {
                        broker.doubts.put(doubt);
                    }
                }
                Err(error) => {
                    tell_error(broker, &partition, "records that somebody doubts could not be read", &error);
                    broker.doubts.put_back(doubt);
                }
            }
        }
    }

    /// Checks a segment in which something was found bad; false where there is none.
    pub(super) fn check_doubted(&self, broker: &Broker, bytes_per_second: Option<f64>) -> bool {
        let Some(doubt) = broker.doubts.take(true) else { return false };
        let (partition, segment) = (&doubt.partition, doubt.segment.unwrap_or(doubt.offset));
        match partition.log().scrub_segment_of(segment, &self.pace(broker, bytes_per_second)) {
            Ok(scrubbed) => {
                let damages = scrubbed.iter().flat_map(|it| &it.damages);
                damages.for_each(|damage| tell_damage(broker, partition, damage));
            }
            Err(error) => {
                tell_error(broker, partition, NOT_SCRUBBED, &error);
                broker.doubts.put_back(doubt);
            }
        }
        true
    }

    pub(super) fn pace<'a>(&'a self, broker: &'a Broker, bytes_per_second: Option<f64>) -> Attentive<'a> {
        Attentive { scrubber: self, broker, throttle: Throttle::new(&self.brake, bytes_per_second) }
    }
}

/// Keeps to the rate, and looks at what is doubted meanwhile: a segment may take minutes.
pub(super) struct Attentive<'a> {
    scrubber: &'a Scrubber,
    broker: &'a Broker,
    throttle: Throttle<'a>,
}

impl Pace for Attentive<'_> {
    fn go_on(&self, bytes: u64) -> bool {
        self.throttle.go_on_with(bytes, || self.scrubber.look_at_doubts(self.broker))
    }
}

fn tell_sent_again(broker: &Broker, partition: &Partition, offset: i64) {
    let fields = vec![
        ("topic", partition.topic().to_string()),
        ("partition", partition.index().to_string()),
        ("offset", offset.to_string()),
    ];
    let message = "a client fetched records again and again, and they are bad";
    broker.events().push(Level::Warning, message, fields);
}
