//! The access log: one line a request while there are few, a sample when there are many.
//!
//! Queries are left out, because they may hold secrets. The log is given to a callback that must
//! not wait.

use std::{
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{page::Answer, request::Origin, request::Request, vhost::Place};

/// What the log tells of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    /// `None` when the door answers itself.
    place: Option<Rc<Place>>,
    method: String,
    /// As it was asked for, unless that is longer than is written of it.
    target: String,
    peer: Option<IpAddr>,
    status: Option<u16>,
    bytes: usize,
    began: Option<Instant>,
    took: Duration,
}

impl Served {
    /// A request to `place` that begins now.
    pub(super) fn begin(
        request: Request,
        origin: Origin,
        place: Option<Rc<Place>>,
        now: Instant,
    ) -> Self {
        let mut target = request.target;
        if target.len() > MAX_PATH {
            target = target.chars().take(MAX_PATH).collect();
        }
        Self {
            place,
            method: request.method,
            target,
            peer: Some(origin.peer),
            began: Some(now),
            ..Self::default()
        }
    }

    /// A request that the door answered itself.
    pub(super) fn by_door(request: Request, origin: Origin, answer: &Answer, now: Instant) -> Self {
        let mut served = Self::begin(request, origin, None, now);
        served.count(answer.len());
        served.end(Some(answer.status), now);
        served
    }

    /// A request that was not understood.
    pub(super) fn refused(origin: Origin, status: u16, now: Instant) -> Self {
        Self {
            method: "-".to_owned(),
            target: "-".to_owned(),
            peer: Some(origin.peer),
            status: Some(status),
            began: Some(now),
            ..Self::default()
        }
    }

    /// Counts bytes of the answer's body.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// It ends with `status`; `None` when the client went away first.
    pub(super) fn end(&mut self, status: Option<u16>, now: Instant) {
        self.status = status;
        let began = self.began.unwrap_or(now);
        self.took = now.saturating_duration_since(began);
    }

    /// The line: who, what, where, with what result.
    fn line(&self) -> String {
        let peer = self
            .peer
            .map_or_else(|| "-".to_owned(), |peer| peer.to_canonical().to_string());
        let status = self
            .status
            .map_or_else(|| "gone".to_owned(), |status| status.to_string());
        let place = self.place.as_ref().map_or(DOOR, |place| &place.name);
        let path = self.target.split('?').next().unwrap_or_default();
        let path: String = path.escape_default().take(MAX_PATH).collect();
        let Self { method, bytes, .. } = self;
        let took = self.took.as_millis();
        format!("{peer} {place} {method} {path} {status} {bytes} B {took} ms")
    }
}

/// Decides what is written, and counts the rest.
pub(super) struct AccessLog {
    second: Instant,
    written: u32,
    skipped: u64,
}

impl AccessLog {
    /// A log that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            second: now,
            written: 0,
            skipped: 0,
        }
    }

    /// Writes a line for `served`, or counts it. Failures are preferred over successes.
    pub(super) fn note(&mut self, served: &Served, now: Instant, write: &mut dyn FnMut(&str)) {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.written = 0;
        }
        let failed = served.status.is_none_or(|status| status >= 500);
        let limit = if failed {
            FAILURES_A_SECOND
        } else {
            LINES_A_SECOND
        };
        if self.written >= limit {
            self.skipped += 1;
            return;
        }
        self.written += 1;
        let skipped = std::mem::take(&mut self.skipped);
        match skipped {
            0 => write(&served.line()),
            _ => write(&format!(
                "{} (and {skipped} requests before it)",
                served.line()
            )),
        }
    }
}

/// Where requests go that the door answers itself.
const DOOR: &str = "door";
/// The most characters of a path.
const MAX_PATH: usize = 200;
/// Enough to follow a person's clicks; a flood must not flood the log as well.
const LINES_A_SECOND: u32 = 20;
/// Failures have some lines more, so that successes can't hide them.
const FAILURES_A_SECOND: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Rc<Place> {
        Rc::new(Place {
            busy: Default::default(),
            name: "demo".into(),
            upstream: Default::default(),
            is_dashboard: false,
            kind: Default::default(),
        })
    }

    fn served(status: u16) -> Served {
        Served {
            place: Some(place()),
            method: "GET".into(),
            target: "/a?secret=b".into(),
            peer: Some([192, 0, 2, 1].into()),
            status: Some(status),
            bytes: 7,
            took: Duration::from_millis(3),
            began: None,
        }
    }

    #[test]
    fn a_flood_is_sampled_and_counted() {
        let now = Instant::now();
        let mut log = AccessLog::new(now);
        let mut lines = Vec::new();
        let mut write = |line: &str| lines.push(line.to_owned());
        (0..1000).for_each(|_| log.note(&served(200), now, &mut write));
        log.note(&served(502), now, &mut write);
        log.note(&served(200), now + Duration::from_secs(1), &mut write);
        assert_eq!(lines[0], "192.0.2.1 demo GET /a 200 7 B 3 ms");
        assert_eq!(lines.len(), LINES_A_SECOND as usize + 2);
        assert!(lines[LINES_A_SECOND as usize].contains(" 502 "));
        assert!(lines[LINES_A_SECOND as usize].contains("and 980 requests"));
    }
}
