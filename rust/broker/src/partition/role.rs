//! What this broker is to a partition, in which leader epoch.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a broker does for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It takes records and shows them.
    Leader,
    /// It copies what its leader has.
    Follower,
    /// The partition is leaving this broker.
    Deleted,
}

/// A duty and the leader epoch in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The duty.
    pub duty: Duty,
    /// The leader epoch; -1 before the first one is known.
    pub leader_epoch: i32,
}

/// A role that is read whole without a lock.
pub(crate) struct RoleCell(AtomicU64);

impl RoleCell {
    pub(crate) fn new(role: Role) -> Self {
        Self(AtomicU64::new(pack(role)))
    }

    pub(crate) fn load(&self) -> Role {
        let packed = self.0.load(Ordering::Acquire);
        let duty = match packed & 3 {
            0 => Duty::Leader,
            1 => Duty::Follower,
            _ => Duty::Deleted,
        };
        // the upper half holds the 32 bits of the epoch
        Role { duty, leader_epoch: (packed >> 32) as u32 as i32 }
    }

    pub(crate) fn store(&self, role: Role) {
        self.0.store(pack(role), Ordering::Release);
    }
}

fn pack(role: Role) -> u64 {
    let duty = match role.duty {
        Duty::Leader => 0,
        Duty::Follower => 1,
        Duty::Deleted => 2,
    };
    u64::from(role.leader_epoch as u32) << 32 | duty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_reads_back() {
        for duty in [Duty::Leader, Duty::Follower, Duty::Deleted] {
            for leader_epoch in [-1, 0, 7, i32::MAX] {
                let role = Role { duty, leader_epoch };
                assert_eq!(RoleCell::new(role).load(), role);
            }
        }
    }
}
