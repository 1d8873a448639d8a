//! The fetch sessions of this broker, bounded in number and in partitions.

use super::read::Served;
use super::session::{FINAL_EPOCH, Found, INITIAL_EPOCH, Look, Session, View, Wanted, next_epoch, wanted_of};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::FetchRequest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Partitions of all sessions together; a session that does not fit is not made, which is a valid answer.
const PARTITIONS_MAX: usize = 1_000_000;

/// How a fetch relates to sessions.
pub(crate) enum FetchContext {
    /// It has none; the answer names all partitions.
    Sessionless,
    /// It asks for one; it gets one if there is room when it is answered.
    New,
    /// It goes on with one; the answer names what changed.
    Incremental { id: i32, epoch: i32, session: Arc<Mutex<Session>> },
}

/// Sessions by id.
pub(crate) struct SessionCache {
    state: Mutex<State>,
    slots: usize,
    /// A session that was not used, or was there, for this long may give way to another.
    evict_after: Duration,
    /// A fetch looks at all partitions of its session so long after the last one that did.
    look_at_all_after: Duration,
    random: RandomState,
    /// Where ids come from instead, when they are to be the same again.
    seed: Option<u64>,
}

#[derive(Default)]
struct State {
    entries: HashMap<i32, Entry>,
    partition_count: usize,
    made_count: u64,
}

struct Entry {
    session: Arc<Mutex<Session>>,
    /// A follower's, which a consumer's may not push out.
    privileged: bool,
    partition_count: usize,
    created: Instant,
    last_used: Instant,
}

impl SessionCache {
    /// A cache of at most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(
        slots: usize,
        evict_after: Duration,
        look_at_all_after: Duration,
        seed: Option<u64>,
    ) -> Self {
        let random = RandomState::new();
        Self { state: Mutex::default(), slots, evict_after, look_at_all_after, random, seed }
    }

    /// Finds a request's context and what is to be read for it; an error for a session that is not known
    /// (`FETCH_SESSION_ID_NOT_FOUND`) or out of step (`INVALID_FETCH_SESSION_EPOCH`). `find` is asked for partitions.
    pub(crate) fn begin(
        &self,
        request: &FetchRequest<'_>,
        view: View,
        now: Instant,
        mut intern: impl FnMut(&str) -> Arc<str>,
        mut find: impl FnMut(&Wanted) -> Result<Served, ErrorCode>,
    ) -> Result<(FetchContext, Look), ErrorCode> {
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.remove(request.session_id);
            let wanted = wanted_of(&request.topics, intern);
            let makes_one = request.session_epoch == INITIAL_EPOCH && !wanted.is_empty();
            let context = if makes_one { FetchContext::New } else { FetchContext::Sessionless };
            return Ok((context, Look::of(wanted, find)));
        }
        let id = request.session_id;
        let found = self.state.lock().entries.get(&id).map(|entry| entry.session.clone());
        let shared = found.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        let mut session = shared.lock();
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.has_ids != view.has_ids() {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.update(request, &mut intern);
        if session.is_empty() {
            drop(session);
            self.remove(id);
            return Ok((FetchContext::Sessionless, Look::default()));
        }
        session.epoch = next_epoch(session.epoch);
        let (epoch, count) = (session.epoch, session.len());
        let look = session.look(view, now, self.look_at_all_after, &mut find);
        drop(session);
        self.touch(id, count, now);
        Ok((FetchContext::Incremental { id, epoch, session: shared }, look))
    }

    /// Makes a session for a full fetch that is being answered; 0 when there is no room for it.
    pub(crate) fn make(
        &self,
        wanted: &[Wanted],
        found: &[Found],
        has_ids: bool,
        privileged: bool,
        now: Instant,
    ) -> i32 {
        let mut state = self.state.lock();
        if !self.make_room(&mut state, privileged, wanted.len(), now) {
            return 0;
        }
        let id = self.new_id(&mut state);
        let session = Session::new(wanted.to_vec(), found, has_ids);
        let partition_count = session.len();
        let session = Arc::new(Mutex::new(session));
        state.partition_count += partition_count;
        state
            .entries
            .insert(id, Entry { session, privileged, partition_count, created: now, last_used: now });
        id
    }

    fn remove(&self, id: i32) {
        if id != 0 {
            self.state.lock().remove(id);
        }
    }

    fn touch(&self, id: i32, partition_count: usize, now: Instant) {
        let state = &mut *self.state.lock();
        if let Some(entry) = state.entries.get_mut(&id) {
            state.partition_count = state.partition_count - entry.partition_count + partition_count;
            entry.partition_count = partition_count;
            entry.last_used = now;
        }
    }

    /// Makes room for a session of `size` partitions, as Kafka does: the longest unused gives way if it was
    /// unused for `evict_after`; else one that is there for so long and is less: a consumer's rather than a
    /// follower's, a small one rather than a large one.
    fn make_room(&self, state: &mut State, privileged: bool, size: usize, now: Instant) -> bool {
        if self.slots == 0 || state.partition_count + size > PARTITIONS_MAX {
            return false;
        }
        if state.entries.len() < self.slots {
            return true;
        }
        let longest_unused = state.entries.iter().min_by_key(|(id, entry)| (entry.last_used, **id));
        let unused = longest_unused.filter(|(_, it)| now.duration_since(it.last_used) > self.evict_after);
        let established = || {
            let old =
                state.entries.iter().filter(|(_, it)| now.duration_since(it.created) > self.evict_after);
            let least = old.min_by_key(|(id, it)| (it.privileged, it.partition_count, **id));
            least.filter(|(_, it)| (it.privileged, it.partition_count) < (privileged, size))
        };
        match unused.or_else(established).map(|(id, _)| *id) {
            Some(id) => {
                state.remove(id);
                true
            }
            None => false,
        }
    }

    /// A positive number that is not in use and not to be guessed.
    fn new_id(&self, state: &mut State) -> i32 {
        loop {
            state.made_count += 1;
            let random = match self.seed {
                None => self.random.hash_one(state.made_count),
                Some(seed) => {
                    BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, state.made_count))
                }
            };
            let id = i32::try_from(random & 0x7fff_ffff).unwrap_or_default();
            if id != 0 && !state.entries.contains_key(&id) {
                return id;
            }
        }
    }
}

impl State {
    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.entries.remove(&id) {
            self.partition_count -= entry.partition_count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::Isolation;
    use super::super::session::{TOPIC_IDS_VERSION, Told};
    use super::*;
    use fastlog_protocol::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};

    const EVICT_AFTER: Duration = Duration::from_secs(120);

    fn cache(slots: usize) -> SessionCache {
        SessionCache::new(slots, EVICT_AFTER, Duration::MAX, None)
    }

    fn request(session_id: i32, session_epoch: i32, partitions: i32) -> FetchRequest<'static> {
        let partitions = (0..partitions)
            .map(|partition| FetchPartition { partition, ..FetchPartition::default() })
            .collect();
        let topics = vec![FetchTopic { topic: "t", partitions, ..FetchTopic::default() }];
        FetchRequest { session_id, session_epoch, topics, ..FetchRequest::default() }
    }

    fn begin(cache: &SessionCache, it: &FetchRequest<'_>) -> Result<(FetchContext, Vec<Wanted>), ErrorCode> {
        begin_in(cache, it, 12)
    }

    fn begin_in(
        cache: &SessionCache,
        it: &FetchRequest<'_>,
        version: i16,
    ) -> Result<(FetchContext, Vec<Wanted>), ErrorCode> {
        let view = View { version, isolation: Isolation::LogEnd, replica: None, prefers_nearer: false };
        let none = |_: &Wanted| Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let (context, look) = cache.begin(it, view, Instant::now(), |topic| topic.into(), none)?;
        Ok((context, look.wanted))
    }

    fn count(cache: &SessionCache) -> usize {
        cache.state.lock().entries.len()
    }

    fn make(cache: &SessionCache, partitions: i32, privileged: bool, now: Instant) -> i32 {
        let (context, wanted) = begin(cache, &request(0, 0, partitions)).unwrap_or_else(|_| panic!());
        assert!(matches!(context, FetchContext::New));
        let found = Found { told: Told::NOTHING, has_records: false, is_special: false, has_more: false };
        cache.make(&wanted, &vec![found; wanted.len()], false, privileged, now)
    }

    #[test]
    fn a_session_goes_on_with_the_next_epoch_only() {
        let cache = cache(10);
        let id = make(&cache, 2, false, Instant::now());
        assert!(id > 0);
        let (context, wanted) = begin(&cache, &request(id, 1, 0)).unwrap_or_else(|_| panic!());
        assert!(matches!(context, FetchContext::Incremental { epoch: 2, .. }));
        assert_eq!(wanted.len(), 2);
        let again = begin(&cache, &request(id, 1, 0)).err();
        assert_eq!(again, Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
        let unknown = begin(&cache, &request(id ^ 1, 1, 0)).err();
        assert_eq!(unknown, Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
    }

    #[test]
    fn a_session_of_names_does_not_go_on_with_ids_even_if_none_is_named() {
        let cache = cache(10);
        let id = make(&cache, 2, false, Instant::now());
        for partitions in [0, 1] {
            let mixed = begin_in(&cache, &request(id, 1, partitions), TOPIC_IDS_VERSION).err();
            assert_eq!(mixed, Some(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
        }
        assert!(begin_in(&cache, &request(id, 1, 0), TOPIC_IDS_VERSION - 1).is_ok(), "it is as it was");
    }

    #[test]
    fn the_final_epoch_ends_a_session_and_fetches_without_one() {
        let cache = cache(10);
        let id = make(&cache, 2, false, Instant::now());
        let (context, wanted) = begin(&cache, &request(id, FINAL_EPOCH, 1)).unwrap_or_else(|_| panic!());
        assert!(matches!(context, FetchContext::Sessionless));
        assert_eq!((wanted.len(), count(&cache)), (1, 0));
    }

    #[test]
    fn forgetting_the_last_partition_ends_the_session() {
        let cache = cache(10);
        let id = make(&cache, 1, false, Instant::now());
        let forgotten = ForgottenTopic { topic: "t", partitions: vec![0], ..ForgottenTopic::default() };
        let it = FetchRequest { forgotten_topics_data: vec![forgotten], ..request(id, 1, 0) };
        let (context, _) = begin(&cache, &it).unwrap_or_else(|_| panic!());
        assert!(matches!(context, FetchContext::Sessionless));
        assert_eq!((count(&cache), cache.state.lock().partition_count), (0, 0));
    }

    #[test]
    fn without_room_there_is_no_session_but_no_error() {
        let cache = cache(1);
        let now = Instant::now();
        assert!(make(&cache, 5, false, now) > 0);
        assert_eq!(make(&cache, 9, false, now), 0);
        assert_eq!(count(&cache), 1);
    }

    #[test]
    fn an_unused_session_gives_way_and_so_does_a_smaller_old_one() {
        let cache = cache(1);
        let start = Instant::now();
        make(&cache, 5, true, start);
        let later = start + EVICT_AFTER + Duration::from_secs(1);
        let consumer = make(&cache, 1, false, later);
        assert!(consumer > 0, "unused, so even a follower's session gives way");
        let much_later = later + EVICT_AFTER + Duration::from_secs(1);
        cache.touch(consumer, 1, much_later);
        assert_eq!(make(&cache, 1, false, much_later), 0, "used, and not smaller");
        let larger = make(&cache, 2, false, much_later);
        assert!(larger > 0);
        assert_eq!(count(&cache), 1);
    }

    #[test]
    fn a_consumer_does_not_push_out_a_follower() {
        let cache = cache(1);
        let start = Instant::now();
        let follower = make(&cache, 1, true, start);
        let later = start + EVICT_AFTER + Duration::from_secs(1);
        cache.touch(follower, 1, later);
        assert_eq!(make(&cache, 100, false, later), 0);
        assert!(make(&cache, 2, true, later) > 0);
    }
}
