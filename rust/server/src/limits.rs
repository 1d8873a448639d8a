//! How many connections there may be, in all and of one address.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts open connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    state: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total_max: usize,
    per_ip_max: usize,
    descriptors_max: usize,
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// Which limit a new connection would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// `max.connections`
    Total,
    /// `max.connections.per.ip`
    PerIp,
    /// Logs' files are to have descriptors too.
    Descriptors,
}

impl Refused {
    /// What says so.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Refused::Total => "max.connections",
            Refused::PerIp => "max.connections.per.ip",
            Refused::Descriptors => "the descriptors of this process (ulimit -n), of which logs have a half",
        }
    }
}

impl ConnectionLimits {
    pub(crate) fn new(total_max: usize, per_ip_max: usize) -> Arc<Self> {
        // a sixth is for connections of ZeroMQ
        let descriptors_max = fastlog_sys::limits::connections_max() / 6 * 5;
        let counts = Counts { total_max, per_ip_max, descriptors_max, ..Counts::default() };
        Arc::new(Self { state: Mutex::new(counts) })
    }

    /// Other limits from now on; connections that are open stay, also where they are too many.
    pub(crate) fn set(&self, total_max: usize, per_ip_max: usize) {
        let mut counts = self.state.lock();
        counts.total_max = total_max;
        counts.per_ip_max = per_ip_max;
    }

    /// Counts one more connection of `ip` until the permit is dropped.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<ConnectionPermit, Refused> {
        let mut counts = self.state.lock();
        if counts.total >= counts.total_max {
            return Err(Refused::Total);
        }
        if counts.total >= counts.descriptors_max {
            return Err(Refused::Descriptors);
        }
        let per_ip_max = counts.per_ip_max;
        let of_ip = counts.per_ip.entry(ip).or_default();
        if *of_ip >= per_ip_max {
            return Err(Refused::PerIp);
        }
        *of_ip += 1;
        counts.total += 1;
        Ok(ConnectionPermit { limits: self.clone(), ip })
    }

    /// Number of open connections.
    pub(crate) fn total(&self) -> usize {
        self.state.lock().total
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    ip: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.limits.state.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(of_ip) = counts.per_ip.get_mut(&self.ip) {
            *of_ip = of_ip.saturating_sub(1);
            if *of_ip == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_a_dropped_permit_makes_room() {
        let limits = ConnectionLimits::new(3, 2);
        let (near, far) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let first = limits.admit(near).unwrap();
        let _second = limits.admit(near).unwrap();
        assert_eq!(limits.admit(near).unwrap_err(), Refused::PerIp);
        let _third = limits.admit(far).unwrap();
        assert_eq!(limits.admit(far).unwrap_err(), Refused::Total);
        drop(first);
        let _fourth = limits.admit(near).unwrap();
        assert_eq!(limits.total(), 3);
        limits.set(10, 10);
        limits.state.lock().descriptors_max = 3;
        assert_eq!(limits.admit(far).unwrap_err(), Refused::Descriptors);
    }
}
