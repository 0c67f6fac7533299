//! The roles: what each process of PID 1's own is, whom it runs as, and what it may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervise::{
    control::Limits,
    spawn::{Schedule, User},
    unit::UnitName,
};

/// A process that PID 1 starts from its own binary and always keeps running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// The front door: all that strangers' bytes touch first.
    Front,
    /// The log.
    Logd,
    /// Services, packages, API: the Tokio pool.
    Manager,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Logd, Self::Front, Self::Manager];

    /// The role's name: argument, unit, control group.
    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Logd => "logd",
            Self::Manager => "manager",
        }
    }

    /// The role's unit.
    pub fn unit(self) -> UnitName {
        self.name().parse().expect("the names above are unit names")
    }

    /// The role of a unit, if it is one.
    pub fn of(unit: &UnitName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == unit.as_str())
    }

    /// Its place in tables with an entry for each role.
    pub fn index(self) -> usize {
        match self {
            Self::Front => 0,
            Self::Logd => 1,
            Self::Manager => 2,
        }
    }

    /// Whom it runs as. None is root; only monitors and helpers are.
    pub fn user(self) -> User {
        let id = match self {
            Self::Front => FRONT_ID,
            Self::Manager => 501,
            Self::Logd => 502,
        };
        User { uid: id, gid: id }
    }

    /// The limits of its control group. Weights put the front before the manager before services,
    /// so that a manager that burns every core slows no request.
    pub fn limits(self) -> Limits {
        let (memory_max, memory_low, cpu_weight) = match self {
            Self::Front => (192 * MIB, Some(16 * MIB), 1000),
            Self::Logd => (64 * MIB, None, 200),
            Self::Manager => (384 * MIB, None, 200),
        };
        Limits {
            memory_max: Some(memory_max),
            memory_low,
            pids_max: Some(1024),
            cpu_weight: Some(cpu_weight),
            cpu_percent: None,
        }
    }

    /// How willingly the kernel kills it when memory is short. The manager before the others: its
    /// death is an ordinary replacement.
    pub fn oom_score_adj(self) -> i16 {
        match self {
            Self::Front => -800,
            Self::Logd => -500,
            Self::Manager => 0,
        }
    }

    /// Its place among those that want a CPU, which says what weights can't: whatever wakes breaks in
    /// on the manager at once. Where groups have no weights, the manager comes after the services.
    pub fn schedule(self) -> Schedule {
        match self {
            Self::Front => FIRST,
            Self::Logd => Schedule::default(),
            Self::Manager => Schedule {
                nice: 5,
                slice: Some(Duration::from_millis(6)),
            },
        }
    }
}

/// The place of PID 1 and of the front: they have little to do at a time, and others wait for it.
pub const FIRST: Schedule = Schedule {
    nice: -10,
    slice: Some(Duration::from_micros(300)),
};

/// The front's group: owns the dashboard's socket.
pub const FRONT_ID: u32 = 500;

const MIB: u64 = 1024 * 1024;
