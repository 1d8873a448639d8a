//! Where replicas are to be: asked for, written down, and gone on with by the next start.
//!
//! What is wanted is about a replica that is in another directory, and is moved, or about one that is not here yet, and is made
//! there. It goes when the replica is there, when the move failed for another reason than a bad disk, when somebody gives it up,
//! and with the topic or the replica. While one of the two disks is bad, or away, it waits for it, over restarts too.
//!
//! Crash points: [`fastlog_log::log_dir::moves::wanted`] is written, synced, before the answer. A start goes by it; only where there
//! is none, or it does not read, does it go by the copies that the last run left, and writes it anew before they are put away.

use super::super::directories::{self, Directories};
use super::super::{LeftCopy, LogManager};
use super::{Key, check_movable, key_of};
use crate::events::{Events, Level};
use crate::partition::{ChangeError, Partition};
use fastlog_log::{LogDir, LogError, WantedPlace, WantedPlaces};
use fastlog_protocol::ErrorCode;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use uuid::Uuid;

/// A replica that is to be in a data directory.
#[derive(Clone, Debug)]
pub struct WantedReplica {
    /// The topic.
    pub topic: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition.
    pub index: i32,
    /// The data directory.
    pub directory: PathBuf,
}

/// A replica that is being moved, for those who ask.
#[derive(Clone, Debug)]
pub struct DescribedFuture {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub index: i32,
    /// Bytes of batches that are copied.
    pub size_bytes: u64,
    /// How many offsets the copy is behind the log's end.
    pub offset_lag: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) topic_id: Uuid,
    /// `directory.id` of the data directory.
    pub(super) directory_id: Arc<str>,
    pub(super) progress: Arc<Progress>,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) size_bytes: AtomicU64,
    pub(super) end_offset: AtomicI64,
}

impl Wanted {
    fn new(topic_id: Uuid, directory_id: &str) -> Self {
        Self { topic_id, directory_id: directory_id.into(), progress: Arc::default() }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.topic_id == other.topic_id && self.directory_id == other.directory_id
    }

    pub(super) fn is_in(&self, directory: &LogDir) -> bool {
        directory.id() == Some(&*self.directory_id)
    }

    /// The directory, where it can be written to.
    pub(super) fn target<'a>(&self, directories: &'a Directories) -> Option<&'a Arc<LogDir>> {
        directories.healthy().find(|it| self.is_in(it))
    }
}

/// What is wanted, by the replicas.
#[derive(Debug, Default)]
pub(in crate::log_manager) struct List {
    all: Mutex<BTreeMap<Key, Wanted>>,
    /// The replica that gets its new place just now, whatever is wanted from here on. Comes after `all`.
    handed_over: Mutex<Option<Key>>,
    /// What the file says, `None` where nobody knows. Who changes what is wanted holds it: one at a time waits for the disk, and
    /// nobody else does.
    file: Mutex<Option<WantedPlaces>>,
}

/// A replica that gets the place where it is wanted; until it is dropped.
pub(super) struct BeingHandedOver<'a>(&'a List);

impl Drop for BeingHandedOver<'_> {
    fn drop(&mut self) {
        *self.0.handed_over.lock() = None;
    }
}

/// What comes of a wish.
enum Judged {
    /// The replica is there.
    Stays,
    Moves(Wanted),
    /// It is not here: what is told of it.
    IsToBeMade(Wanted, ChangeError),
}

impl List {
    pub(super) fn all(&self) -> BTreeMap<Key, Wanted> {
        self.all.lock().clone()
    }

    pub(super) fn get(&self, partition: &Partition) -> Option<Wanted> {
        self.all.lock().get(&key_of(partition)).filter(|it| it.topic_id == partition.topic_id()).cloned()
    }

    /// The last look before a replica gets its place, which one thread does; `None` = it is not wanted there any more. Who wants
    /// something else while the answer lives is told as if the replica were there.
    pub(super) fn begin_hand_over(
        &self,
        partition: &Partition,
        wanted: &Wanted,
    ) -> Option<BeingHandedOver<'_>> {
        let (all, key) = (self.all.lock(), key_of(partition));
        all.get(&key).filter(|now| now.is_same(wanted))?;
        *self.handed_over.lock() = Some(key);
        Some(BeingHandedOver(self))
    }

    /// Has a replica stay where it is, from now on, unless it is handed over or not there.
    fn give_up(&self, key: &Key, is_there: impl Fn() -> bool) -> bool {
        let mut all = self.all.lock();
        let stays = self.handed_over.lock().as_ref() != Some(key) && is_there();
        if stays {
            all.remove(key);
        }
        stays
    }

    /// What an earlier run left of it, written down; `copies` are those that are about to be put away.
    pub(in crate::log_manager) fn resume(
        directories: &Directories,
        copies: &[LeftCopy],
        events: &Events,
    ) -> Result<Self, LogError> {
        let first = directories.first()?;
        let (places, file) = match first.read_wanted() {
            Ok(Some(places)) => (places.clone(), Some(places)),
            Ok(None) => (places_of(copies), Some(WantedPlaces::new())),
            Err(error) => {
                let message = "which replicas are to be moved is not known any more: those that waited stay where they are; see \
                               what `fastlog disks list --replicas` shows, and ask for the moves again";
                events.push(Level::Error, message, vec![("reason", error.to_string())]);
                (places_of(copies), None)
            }
        };
        let mut all = BTreeMap::new();
        for (key, place) in places {
            let wanted = Wanted::new(place.topic_id, &place.directory_id);
            let is_here = directories.all().iter().any(|it| wanted.is_in(it));
            if !is_here {
                tell_away(&key, &wanted, directories, events);
            }
            // where no disk failed, one that is not here was given up by a person
            if is_here || !directories.failed().is_empty() {
                all.insert(key, wanted);
            }
        }
        let list = Self { all: Mutex::new(all), file: Mutex::new(file), ..Self::default() };
        let written = list.write(directories, &mut list.file.lock(), &list.all());
        if let Err(error) = written {
            let message =
                "which replicas are to be moved could not be written down, the next start may not know it";
            events.push(Level::Error, message, vec![("reason", error.to_string())]);
        }
        Ok(list)
    }

    /// Writes down what is to be wanted, synced, where that is not written already.
    fn write(
        &self,
        directories: &Directories,
        file: &mut Option<WantedPlaces>,
        all: &BTreeMap<Key, Wanted>,
    ) -> Result<(), LogError> {
        let place =
            |it: &Wanted| WantedPlace { topic_id: it.topic_id, directory_id: it.directory_id.to_string() };
        let places: WantedPlaces = all.iter().map(|(key, it)| (key.clone(), place(it))).collect();
        if file.as_ref() == Some(&places) {
            return Ok(());
        }
        // where it fails nobody knows which of the two the file says
        *file = None;
        directories.first()?.write_wanted(&places)?;
        *file = Some(places);
        Ok(())
    }
}

/// What the copies tell: in which directory each of the replicas is to be.
fn places_of(copies: &[LeftCopy]) -> WantedPlaces {
    let each = copies.iter().filter_map(|(directory, copy)| {
        let place = WantedPlace { topic_id: copy.topic_id?, directory_id: directory.id()?.to_owned() };
        Some(((copy.topic.clone(), copy.partition), place))
    });
    each.collect()
}

fn tell_away((topic, index): &Key, wanted: &Wanted, directories: &Directories, events: &Events) {
    let message = if directories.failed().is_empty() {
        "a replica is not moved any more: this broker does not have the data directory where it was to be"
    } else {
        "a replica is to be in a data directory that failed: it is moved by the start at which its disk is well"
    };
    let fields = vec![
        ("topic", topic.clone()),
        ("partition", index.to_string()),
        ("directory_id", wanted.directory_id.to_string()),
    ];
    events.push(Level::Warning, message, fields);
}

impl LogManager {
    /// Has replicas moved to other data directories, or stay where they are if that is the one; a move elsewhere that is under
    /// way ends. All of it is on the disk when this returns, and [`LogManager::move_next`] does it, in a later run if need be. Of
    /// a partition that is not here, it is remembered where it is to be made. A result each, in that order; of one that stands
    /// twice the last counts. Blocks on the first data directory's disk.
    ///
    /// # Errors
    /// `LOG_DIR_NOT_FOUND`; `KAFKA_STORAGE_ERROR` where one of the two directories is offline, or the first cannot be written to;
    /// `REPLICA_NOT_AVAILABLE` where the partition is not here; `INVALID_TOPIC_EXCEPTION` for a name that is too long;
    /// `INVALID_REQUEST` for a tiered topic, and for a directory without an id.
    pub fn move_replicas(&self, asked: &[WantedReplica]) -> Vec<Result<(), ChangeError>> {
        let directories = match self.directories() {
            Ok(directories) => directories,
            Err(error) => return asked.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let list = &self.moves.wanted;
        let mut file = list.file.lock();
        let mut all = list.all();
        let mut judge = |asked: &WantedReplica| {
            let key = (asked.topic.clone(), asked.index);
            let (wanted, answer) = match self.judge(&directories, asked, &key)? {
                Judged::Stays => {
                    all.remove(&key);
                    return Ok(());
                }
                Judged::Moves(wanted) => (wanted, Ok(())),
                Judged::IsToBeMade(wanted, told) => (wanted, Err(told)),
            };
            if all.get(&key).is_none_or(|it| !it.is_same(&wanted)) {
                all.insert(key, wanted);
            }
            answer
        };
        let answers = asked.iter().map(&mut judge).collect();
        match list.write(&directories, &mut file, &all) {
            Ok(()) => {
                *list.all.lock() = all;
                answers
            }
            // what was given up this run at least does not do
            Err(error) => {
                let is_refused = |it: &ChangeError| it.code != ErrorCode::REPLICA_NOT_AVAILABLE;
                answers
                    .into_iter()
                    .map(|it| Err(it.err().filter(is_refused).unwrap_or_else(|| error.clone().into())))
                    .collect()
            }
        }
    }

    fn judge(
        &self,
        directories: &Directories,
        asked: &WantedReplica,
        key: &Key,
    ) -> Result<Judged, ChangeError> {
        let WantedReplica { topic, topic_id, index, directory } = asked;
        let Some(target) = directories.all().iter().find(|it| it.path() == directory) else {
            if let Some(failed) = directories.failed().iter().find(|it| it.path == *directory) {
                return Err(failed.reason.clone().into());
            }
            let message = format!("this broker has no log directory {}", directory.display());
            return Err(ChangeError { code: ErrorCode::LOG_DIR_NOT_FOUND, message });
        };
        target.storage().check()?;
        if let Some(partition) = self.broker.partitions().get(topic, *index) {
            if partition.topic_id() != *topic_id {
                let message =
                    format!("what is here of {topic}-{index} is of a deleted topic of that name; ask again");
                return Err(ChangeError { code: ErrorCode::REPLICA_NOT_AVAILABLE, message });
            }
            partition.log().storage().check()?;
            // a replica that is just handed over is moved back
            if self.moves.wanted.give_up(key, || directories::has(target, partition.log())) {
                return Ok(Judged::Stays);
            }
            check_movable(&partition)?;
            return Ok(Judged::Moves(Wanted::new(*topic_id, id_of(target)?)));
        }
        if self.offline()?.iter().any(|it| (&it.0, &it.1, &it.2) == (topic, topic_id, index)) {
            let message = format!("{topic}-{index} is in a data directory that failed");
            return Err(ChangeError { code: ErrorCode::KAFKA_STORAGE_ERROR, message });
        }
        let message = format!(
            "no replica of {topic}-{index} is here; one that is made will be in {}",
            directory.display()
        );
        let told = ChangeError { code: ErrorCode::REPLICA_NOT_AVAILABLE, message };
        Ok(Judged::IsToBeMade(Wanted::new(*topic_id, id_of(target)?), told))
    }

    /// The replicas that are to be moved to a data directory.
    pub(in crate::log_manager) fn described_futures(&self, to: &LogDir) -> Vec<DescribedFuture> {
        let here = self.moves.wanted.all().into_iter().filter(|(_, it)| it.is_in(to));
        let described = here.filter_map(|((topic, index), it)| {
            let partition = self.broker.partitions().get(&topic, index)?;
            let is_to_come = partition.topic_id() == it.topic_id && !directories::has(to, partition.log());
            let end_offset = it.progress.end_offset.load(Ordering::Relaxed);
            is_to_come.then(|| DescribedFuture {
                topic: partition.topic().clone(),
                index,
                size_bytes: it.progress.size_bytes.load(Ordering::Relaxed),
                offset_lag: partition.log().log_end_offset().saturating_sub(end_offset).max(0),
            })
        });
        described.collect()
    }

    /// The directory in which a partition is to be made, if somebody said so and it can be written to. That it is there by then
    /// is seen by the next look for moves.
    pub(in crate::log_manager) fn preferred<'a>(
        &self,
        directories: &'a Directories,
        topic: &str,
        index: i32,
        topic_id: Uuid,
    ) -> Option<&'a Arc<LogDir>> {
        let list = self.moves.wanted.all.lock();
        let wanted = list.get(&(topic.to_owned(), index)).filter(|it| it.topic_id == topic_id)?;
        wanted.target(directories)
    }

    /// Whether the partition waits to be moved, or is, and no bad disk keeps it from that.
    pub(in crate::log_manager) fn is_to_be_moved(&self, partition: &Partition) -> bool {
        let Some(wanted) = self.moves.wanted.get(partition) else { return false };
        self.directories().is_ok_and(|directories| {
            let target = wanted.target(&directories);
            target.is_some_and(|it| !directories::has(it, partition.log()))
                && partition.log().storage().check().is_ok()
        })
    }

    /// Forgets what is wanted of replicas that are deleted with their topics.
    pub(in crate::log_manager) fn forget_wanted_of(&self, topics: &[Uuid]) {
        self.forget_wanted(|_, it| topics.contains(&it.topic_id));
    }

    /// Forgets what is wanted of replicas of a topic that are deleted.
    pub(in crate::log_manager) fn forget_wanted_replicas(
        &self,
        topic_id: Uuid,
        is_gone: impl Fn(&Key) -> bool,
    ) {
        self.forget_wanted(|key, it| it.topic_id == topic_id && is_gone(key));
    }

    /// What is not wanted any more. That it may be found by the next start, because it could not be written down, is told.
    pub(super) fn forget_wanted(&self, is_meant: impl Fn(&Key, &Wanted) -> bool) {
        let list = &self.moves.wanted;
        let mut file = list.file.lock();
        let forgotten = {
            let mut all = list.all.lock();
            let before = all.len();
            all.retain(|key, it| !is_meant(key, it));
            before - all.len()
        };
        if forgotten == 0 {
            return;
        }
        let written = self.directories().and_then(|it| list.write(&it, &mut file, &list.all()));
        if let Err(error) = written {
            let message = "that replicas are not to be moved any more could not be written down, the next start looks again";
            let fields = vec![("replicas", forgotten.to_string()), ("reason", error.to_string())];
            self.broker.events().push(Level::Warning, message, fields);
        }
    }
}

fn id_of(target: &LogDir) -> Result<&str, LogError> {
    target.id().ok_or_else(|| LogError::Invalid {
        reason: format!("{} has no directory.id, nothing can be moved there", target.path().display()),
    })
}
