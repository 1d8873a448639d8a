//! Changes of a partition's role and of its replicas, as the controller's states say.
//!
//! The role changes last, when all else is done: a change that failed half-way is tried again whole (KAFKA-9307). What it
//! did until then only takes away: the log refuses appends of the older epoch, which is over in any case.

use super::{Duty, Partition, Replication, Role};
use fastlog_log::LogError;
use fastlog_protocol::ErrorCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Who has a partition, as the controller wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The leader's node id, -1 for none.
    pub leader: i32,
    /// Grows with each change of the leader.
    pub leader_epoch: i32,
    /// Grows with each change of this state.
    pub partition_epoch: i32,
    /// Node ids.
    pub replicas: Vec<i32>,
    /// Node ids of those in sync.
    pub isr: Vec<i32>,
    /// Whether the high watermark stands still, since the state names eligible leader replicas; None leaves it as it is,
    /// and moving where the leadership is a new one.
    pub held: Option<bool>,
}

/// Why a change was not made.
#[derive(Clone, Debug)]
pub struct ChangeError {
    /// Kafka's code for it.
    pub code: ErrorCode,
    /// For a person.
    pub message: String,
}

impl From<LogError> for ChangeError {
    fn from(error: LogError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl Partition {
    /// Becomes what `to` says. An older leader epoch is refused (`FENCED_LEADER_EPOCH`); an equal one only changes
    /// replicas and in-sync replicas, by a newer partition epoch. Whoever waits for what does not come any more is
    /// answered. Blocks on the disk.
    ///
    /// One thread changes all partitions. Where the log stands still for long, a leadership does not begin
    /// (`KAFKA_STORAGE_ERROR`), and is to be tried again; whatever was led in an older epoch is over even so.
    pub fn change(self: &Arc<Self>, to: &Assignment) -> Result<(), ChangeError> {
        let changing = self.log.lock_patiently(&self.changing)?;
        let role = self.role();
        self.check_epoch(role, to)?;
        if to.leader_epoch == role.leader_epoch {
            self.take_replicas(to);
        } else if to.leader == self.cluster.node_id {
            self.become_leader(to)?;
        } else {
            self.become_follower(to);
        }
        drop(changing);
        self.notify();
        Ok(())
    }

    fn check_epoch(&self, role: Role, to: &Assignment) -> Result<(), ChangeError> {
        let (code, why) = if role.duty == Duty::Deleted {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "it was deleted".to_owned())
        } else if to.leader_epoch < role.leader_epoch {
            (ErrorCode::FENCED_LEADER_EPOCH, format!("the leader epoch is {}", role.leader_epoch))
        } else {
            return Ok(());
        };
        let message = format!(
            "{}-{} was not changed to leader epoch {}: {why}",
            self.topic(),
            self.index(),
            to.leader_epoch
        );
        Err(ChangeError { code, message })
    }

    fn take_replicas(&self, to: &Assignment) {
        let mut replication = self.replication.lock();
        if to.partition_epoch > replication.partition_epoch() {
            replication.set_partition_epoch(to.partition_epoch);
            replication.set_replicas(to.replicas.clone(), to.isr.clone());
            if let Some(held) = to.held {
                replication.hold(held);
            }
            self.advance_with(&replication);
        }
    }

    fn become_leader(self: &Arc<Self>, to: &Assignment) -> Result<(), LogError> {
        {
            let mut replication = self.replication.lock();
            replication.follow();
            replication.set_partition_epoch(to.partition_epoch);
            replication.set_replicas(to.replicas.clone(), to.isr.clone());
            replication.hold(to.held.unwrap_or(false));
        }
        self.lead(to.leader_epoch)?;
        self.ask_for_sync();
        Ok(())
    }

    /// Leads from now on, with the replicas that are known. The high watermark stays where it is until they told their
    /// positions in this epoch.
    pub(super) fn lead(&self, leader_epoch: i32) -> Result<(), LogError> {
        self.log.fence_epochs_before(leader_epoch);
        self.log.start_epoch(leader_epoch)?;
        let mut replication = self.replication.lock();
        // nothing is appended before the role is changed
        replication.lead(leader_epoch, self.log.log_end_offset(), self.cluster.clock.monotonic_ns());
        self.leader_id.store(self.cluster.node_id, Ordering::Release);
        self.leased_high_watermark.store(self.log.high_watermark(), Ordering::Release);
        self.role.store(Role { duty: Duty::Leader, leader_epoch });
        self.advance_with(&replication);
        Ok(())
    }

    fn become_follower(&self, to: &Assignment) {
        self.follow(to.leader, to.leader_epoch, |replication| {
            replication.set_partition_epoch(to.partition_epoch);
            replication.set_replicas(to.replicas.clone(), to.isr.clone());
        });
    }

    fn follow(&self, leader: i32, leader_epoch: i32, change: impl FnOnce(&mut Replication)) {
        // whoever leads in this epoch, it is not this broker
        self.log.fence_epochs_before(leader_epoch.saturating_add(1));
        let mut replication = self.replication.lock();
        replication.follow();
        change(&mut replication);
        self.leaders_high_watermark.store(-1, Ordering::Release);
        self.leader_id.store(leader, Ordering::Release);
        self.role.store(Role { duty: Duty::Follower, leader_epoch });
    }

    /// Leads no more, in the epoch in which it led, and follows nobody: it is led here again only in a later epoch.
    /// Whoever waits is answered. False where it was not led here.
    pub(crate) fn resign(&self) -> bool {
        {
            let _changing = self.changing.lock();
            let Role { duty, leader_epoch } = self.role();
            if duty != Duty::Leader {
                return false;
            }
            self.follow(-1, leader_epoch, |_| ());
        }
        self.notify();
        true
    }

    /// The replica is to be put away, unless it is of a later leader epoch (KIP-570): true where it is. Whoever waits is
    /// answered.
    pub(crate) fn put_away(&self, leader_epoch: i32) -> bool {
        {
            let _changing = self.changing.lock();
            let role = self.role();
            if role.leader_epoch > leader_epoch {
                return false;
            }
            self.role.store(Role { duty: Duty::Deleted, ..role });
        }
        self.notify();
        true
    }

    /// Changes the in-sync replicas of a partition led here in that epoch: those that the controller confirmed, and with
    /// those that are proposed to it; and whether the high watermark is `held` where it is. Older partition epochs change
    /// nothing. The high watermark moves, and those who wait
    /// look again. `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH`, `NOT_LEADER_OR_FOLLOWER`, `INVALID_UPDATE_VERSION`.
    pub fn set_isr(
        &self,
        leader_epoch: i32,
        committed: Vec<i32>,
        maximal: Vec<i32>,
        partition_epoch: i32,
        held: bool,
    ) -> Result<(), ErrorCode> {
        {
            let _changing = self.changing.lock();
            self.check_leads(leader_epoch)?;
            let mut replication = self.replication.lock();
            if partition_epoch < replication.partition_epoch() {
                return Err(ErrorCode::INVALID_UPDATE_VERSION);
            }
            replication.set_partition_epoch(partition_epoch);
            replication.set_isr(committed, maximal);
            replication.hold(held);
            self.advance_with(&replication);
        }
        self.notify();
        Ok(())
    }
}
