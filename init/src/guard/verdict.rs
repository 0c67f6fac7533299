//! When silence is death: the rule by which a role is judged. Time and evidence in, verdict out.

use std::time::Duration;

use super::evidence::Snapshot;

/// The judgement of one run of one role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    limits: Limits,
    last_sign: Duration,
    ever_answered: bool,
    quiet_since: Option<(Duration, Snapshot)>,
}

/// How long a role may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Silence from which on evidence is looked at. (Measured: no honest heartbeat of a loaded box
    /// took longer than 3.6 s, but those threads wanted a CPU, which is no evidence.)
    pub suspicious: Duration,
    /// So long must its threads have waited without using any CPU.
    pub quiet: Duration,
    /// Silence that is death whatever the threads do.
    pub hopeless: Duration,
    /// From its start to its first sign of life.
    pub startup: Duration,
}

/// What the guard holds of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works, or there is no evidence that it does not.
    Alive,
    /// It has stopped working: silent for so long, while its threads waited.
    Blocked(Duration),
    /// It has stopped working: silent for so long, although its threads run.
    Hopeless(Duration),
}

impl Judge {
    /// Of a run that started at `started`.
    pub(super) fn new(limits: Limits, started: Duration) -> Self {
        Self {
            limits,
            last_sign: started,
            ever_answered: false,
            quiet_since: None,
        }
    }

    /// It gave a sign of life. Returns whether that was its first.
    pub(super) fn sign(&mut self, now: Duration) -> bool {
        self.last_sign = now;
        self.quiet_since = None;
        !std::mem::replace(&mut self.ever_answered, true)
    }

    /// Whether evidence is wanted for [`Judge::verdict`].
    pub(super) fn is_suspicious(&self, now: Duration) -> bool {
        self.silence(now) >= self.limits.suspicious
    }

    /// Judges it, by what its threads do now.
    pub(super) fn verdict(&mut self, now: Duration, threads: Option<Snapshot>) -> Verdict {
        let silence = self.silence(now);
        let hopeless = if self.ever_answered {
            self.limits.hopeless
        } else {
            self.limits.startup
        };
        if silence >= hopeless {
            return Verdict::Hopeless(silence);
        }
        // A run that never answered may be waiting for the disk to load it.
        let Some(threads) = threads.filter(|_| self.ever_answered) else {
            return Verdict::Alive;
        };
        match self.quiet_since {
            Some((since, earlier)) if threads.is_quiet_since(&earlier) => {
                if now.saturating_sub(since) >= self.limits.quiet {
                    return Verdict::Blocked(silence);
                }
            }
            _ => self.quiet_since = Some((now, threads)),
        }
        Verdict::Alive
    }

    fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_sign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        suspicious: Duration::from_millis(500),
        quiet: Duration::from_millis(400),
        hopeless: Duration::from_millis(10_000),
        startup: Duration::from_millis(30_000),
    };

    fn waiting(cpu_ticks: u64) -> Option<Snapshot> {
        Some(Snapshot {
            threads: 4,
            waiting: 4,
            stopped: 0,
            cpu_ticks,
        })
    }

    fn judge(each: impl Fn(u64) -> Option<Snapshot>) -> Option<(u64, Verdict)> {
        let mut judge = Judge::new(LIMITS, Duration::from_millis(0));
        judge.sign(Duration::from_millis(0));
        (0..200).map(|n| n * 100).find_map(|ms| {
            let threads = judge
                .is_suspicious(Duration::from_millis(ms))
                .then(|| each(ms))
                .flatten();
            match judge.verdict(Duration::from_millis(ms), threads) {
                Verdict::Alive => None,
                verdict => Some((ms, verdict)),
            }
        })
    }

    #[test]
    fn silence_with_sleeping_threads_is_death_within_a_second() {
        assert_eq!(
            judge(|_| waiting(7)),
            Some((900, Verdict::Blocked(Duration::from_millis(900))))
        );
    }

    #[test]
    fn a_thread_that_wants_a_cpu_is_no_evidence() {
        let starved = |_| {
            Some(Snapshot {
                threads: 4,
                waiting: 3,
                stopped: 0,
                cpu_ticks: 7,
            })
        };
        assert_eq!(
            judge(starved),
            Some((10_000, Verdict::Hopeless(Duration::from_millis(10_000))))
        );
        assert_eq!(
            judge(|ms| waiting(ms / 100)),
            Some((10_000, Verdict::Hopeless(Duration::from_millis(10_000))))
        );
    }

    #[test]
    fn a_sign_of_life_clears_it() {
        let mut judge = Judge::new(LIMITS, Duration::from_millis(0));
        assert!(judge.sign(Duration::from_millis(0)));
        judge.verdict(Duration::from_millis(600), waiting(7));
        assert!(!judge.sign(Duration::from_millis(900)));
        assert_eq!(
            judge.verdict(Duration::from_millis(1000), None),
            Verdict::Alive
        );
        assert!(!judge.is_suspicious(Duration::from_millis(1300)));
    }

    #[test]
    fn a_start_may_take_its_time_but_not_for_ever() {
        let mut judge = Judge::new(LIMITS, Duration::from_millis(0));
        assert_eq!(
            judge.verdict(Duration::from_millis(29_000), waiting(7)),
            Verdict::Alive
        );
        assert!(matches!(
            judge.verdict(Duration::from_millis(30_000), waiting(7)),
            Verdict::Hopeless(_)
        ));
    }
}
