//! `logd`'s loop: one turn waits for whatever comes first and serves everybody a bounded share.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use supervise::{
    control::{self, Event, FrameError, MAX_TAIL, MAX_TAIL_LINE, PROTOCOL, Request},
    log::Level,
    log_query::{LogLine, Query},
    status::BoxStatus,
    unit::UnitName,
};

use super::{
    LogdError, Setup,
    clients::Clients,
    clock::{self, Stamp},
    kmsg,
    ring::Ring,
    source::{READ_BUFFER, Source},
    store::{News, Store},
    text::{self, Text},
};

/// The role's state.
pub(crate) struct Logd {
    control: OwnedFd,
    queries: OwnedFd,
    kernel: Option<OwnedFd>,
    sources: Vec<Source>,
    log: Log,
    buffer: Vec<u8>,
    /// Whether PID 1 still holds its end of the control socket.
    wanted: bool,
    knows_its_past: bool,
    /// The number of the next line when PID 1 was last told of the last ones.
    told: u64,
}

impl Logd {
    /// Greets PID 1 and starts the store's thread.
    pub(crate) fn start(setup: Setup) -> Result<Self, LogdError> {
        let Setup {
            control,
            queries,
            kernel,
            directory,
        } = setup;
        for fd in [Some(&control), Some(&queries), kernel.as_ref()]
            .into_iter()
            .flatten()
        {
            rustix::io::ioctl_fionbio(fd, true).map_err(std::io::Error::from)?;
        }
        control::send(control.as_fd(), &Request::Hello { protocol: PROTOCOL }, &[])?;
        let store = Store::start(directory, clock::boot())?;
        Ok(Self {
            control,
            queries,
            kernel,
            sources: Vec::new(),
            log: Log::new(store),
            buffer: vec![0; READ_BUFFER],
            wanted: true,
            knows_its_past: false,
            told: 0,
        })
    }

    /// Turns until PID 1 lets go.
    pub(crate) fn run(mut self) -> Result<(), LogdError> {
        while self.wanted {
            self.turn()?;
        }
        // The last words of those who have just ended are still on their way.
        let all = vec![PollFlags::IN; self.sources.len()];
        self.read_sources(&all, Instant::now());
        self.log.store.end(LAST_WRITE);
        Ok(())
    }

    fn turn(&mut self) -> Result<(), LogdError> {
        let Events {
            fixed,
            sources,
            clients,
        } = self.wait()?;
        let now = Instant::now();
        if fixed[CONTROL].contains(PollFlags::IN) || fixed[CONTROL].contains(PollFlags::HUP) {
            self.obey(now);
        }
        // Sources that have just come are polled in the next turn.
        self.read_sources(&sources, now);
        if !fixed[KERNEL].is_empty() {
            self.read_kernel();
        }
        if !fixed[STORE].is_empty() {
            self.log.take_news();
        }
        self.log.clients.serve(&clients, &self.log.ring, now);
        if !fixed[QUERIES].is_empty() {
            self.log.clients.accept(self.queries.as_fd(), now);
        }
        Ok(())
    }

    /// Waits until something is to be done.
    fn wait(&self) -> Result<Events, LogdError> {
        let nothing = PollFlags::empty();
        let kernel = match &self.kernel {
            Some(kernel) => (kernel.as_fd(), PollFlags::IN),
            None => (self.control.as_fd(), nothing),
        };
        let fixed = [
            (self.control.as_fd(), PollFlags::IN),
            (self.queries.as_fd(), PollFlags::IN),
            kernel,
            (self.log.store.as_fd(), PollFlags::IN),
        ];
        let sources = self
            .sources
            .iter()
            .map(|source| (source.as_fd(), PollFlags::IN));
        let all = fixed
            .into_iter()
            .chain(sources)
            .chain(self.log.clients.interests());
        let mut fds: Vec<_> = all
            .map(|(fd, what)| PollFd::from_borrowed_fd(fd, what))
            .collect();
        match poll(&mut fds, Some(&self.patience())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        let mut events = fds.iter().map(PollFd::revents);
        let fixed = events.by_ref().take(fixed.len()).collect();
        let sources = events.by_ref().take(self.sources.len()).collect();
        Ok(Events {
            fixed,
            sources,
            clients: events.collect(),
        })
    }

    fn patience(&self) -> Timespec {
        let soon = self.sources.iter().any(Source::is_waiting) || self.log.clients.are_waiting();
        let wait = if soon { TICK } else { IDLE };
        Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        }
    }

    fn obey(&mut self, now: Instant) {
        for _ in 0..FRAMES_A_TURN {
            match control::receive::<Event>(self.control.as_fd()) {
                Ok((event, fds)) => self.event(event, fds, now),
                Err(FrameError::Io(Errno::AGAIN | Errno::INTR)) => return,
                Err(FrameError::Closed | FrameError::Io(_)) => {
                    self.wanted = false;
                    return;
                }
                Err(error @ (FrameError::Malformed(_) | FrameError::TooLong)) => {
                    self.log.own(
                        Level::Error,
                        format!("PID 1 sent what makes no sense: {error}"),
                    );
                }
            }
        }
    }

    fn event(&mut self, event: Event, fds: Vec<OwnedFd>, now: Instant) {
        match event {
            Event::LogSource { unit } => {
                for fd in fds {
                    self.add_source(unit.clone(), fd, now);
                }
            }
            Event::Data(Ok(())) => self.log.open_store(),
            Event::Data(Err(_)) => self.log.store.close(),
            Event::Status(status) => {
                self.learn_past(&status);
                self.send_tail();
            }
            Event::Refused { why } => {
                self.log.own(
                    Level::Warning,
                    format!("PID 1 refused a request of logd: {why}"),
                );
            }
            // Nothing to do, or meant for other roles.
            Event::Welcome { .. }
            | Event::Listener { .. }
            | Event::ListenerGone { .. }
            | Event::Door(_)
            | Event::Names(_)
            | Event::NameSocket { .. }
            | Event::NameSocketGone { .. }
            | Event::AgentListener { .. }
            | Event::Exited { .. }
            | Event::Acted { .. }
            | Event::NetworkConfirmed { .. }
            | Event::NetworkSet { .. }
            | Event::Unlocked { .. }
            | Event::SetupCode(_)
            | Event::Wanted { .. }
            | Event::Units(_) => {}
        }
    }

    fn add_source(&mut self, unit: UnitName, fd: OwnedFd, now: Instant) {
        if self.sources.iter().any(|source| source.is_same(fd.as_fd())) {
            return;
        }
        if self.sources.len() >= MAX_SOURCES {
            let text = format!("{unit} has no place in the log: {MAX_SOURCES} sources are open");
            return self.log.own(Level::Error, text);
        }
        self.sources.push(Source::new(unit, fd, now));
    }

    fn learn_past(&mut self, status: &BoxStatus) {
        let myself = status
            .roles
            .iter()
            .find(|info| info.unit.as_str() == OWN_UNIT);
        let Some(restarts) = myself.map(|info| info.restarts) else {
            return;
        };
        if restarts > 0 && !self.knows_its_past {
            let text = "logd was started again; lines that only its memory held are lost";
            self.log.own(Level::Warning, text.to_owned());
        }
        self.knows_its_past = true;
    }

    /// Tells PID 1 the last lines for the emergency page, if there are new ones; it asks by saying
    /// how the box is. A full socket: the next time will do.
    fn send_tail(&mut self) {
        if self.told == self.log.next {
            return;
        }
        let newest = Query {
            unit: None,
            lines: MAX_TAIL as u32,
            follow: false,
            level: Level::Info,
        };
        let lines = self.log.ring.select(&newest);
        let lines = lines.iter().map(|line| {
            let mut text = line.to_string();
            text.truncate(text.floor_char_boundary(MAX_TAIL_LINE));
            text
        });
        let tail = Request::LogTail(lines.collect());
        if control::send(self.control.as_fd(), &tail, &[]).is_ok() {
            self.told = self.log.next;
        }
    }

    fn read_sources(&mut self, events: &[PollFlags], now: Instant) {
        let Self {
            sources,
            log,
            buffer,
            ..
        } = self;
        let mut events = events.iter();
        sources.retain_mut(|source| {
            let events = events.next().copied().unwrap_or(PollFlags::empty());
            let unit = source.unit().clone();
            let stamp = Stamp::now();
            let mut line = |text: Text| log.add(&unit, stamp, text);
            source.tick(now, &mut line);
            if events.is_empty() {
                return true;
            }
            let hung_up = events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            let goes_on = source.read(buffer, hung_up, now, &mut line);
            if !goes_on {
                source.end(&mut line);
            }
            goes_on
        });
    }

    fn read_kernel(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let now = Stamp::now();
        for _ in 0..KERNEL_SHARE {
            match kmsg::next(kernel.as_fd()) {
                Ok(Some(message)) => {
                    let level = text::level(message.priority);
                    let text = Text {
                        level,
                        text: text::escape(message.text.as_bytes()),
                    };
                    self.log
                        .add(&self.log.kernel.clone(), now.back_at(message.at), text);
                }
                Ok(None) => return,
                Err(errno) => {
                    self.log.own(
                        Level::Error,
                        format!("the kernel's log can't be read: {errno}"),
                    );
                    self.kernel = None;
                    return;
                }
            }
        }
    }
}

/// What poll(2) saw.
struct Events {
    fixed: Vec<PollFlags>,
    sources: Vec<PollFlags>,
    clients: Vec<PollFlags>,
}

/// The lines and where they go.
struct Log {
    ring: Ring,
    clients: Clients,
    store: Store,
    /// The number of the next line.
    next: u64,
    /// Lines below this number have gone to the store.
    filed: u64,
    own: UnitName,
    kernel: UnitName,
}

impl Log {
    fn new(store: Store) -> Self {
        let name = |text: &str| text.parse().expect("a constant that the tests parse");
        Self {
            ring: Ring::new(RING),
            clients: Clients::default(),
            store,
            next: FIRST,
            filed: FIRST,
            own: name(OWN_UNIT),
            kernel: name(KERNEL_UNIT),
        }
    }

    fn add(&mut self, unit: &UnitName, stamp: Stamp, text: Text) {
        let Stamp { at, unix_ms } = stamp;
        let Text { level, text } = text;
        let (number, unit) = (self.next, unit.clone());
        let line = LogLine {
            number,
            at,
            unix_ms,
            earlier_boot: false,
            unit,
            level,
            text,
        };
        let line = Arc::new(line);
        self.next += 1;
        self.ring.push(Arc::clone(&line));
        self.clients.offer(&line);
        if self.store.is_open() {
            self.store.push(&[line]);
            self.filed = self.next;
        }
    }

    fn own(&mut self, level: Level, text: String) {
        self.add(&self.own.clone(), Stamp::now(), Text { level, text });
    }

    fn open_store(&mut self) {
        let unfiled = self.ring.since(self.filed);
        self.store
            .count_lost(self.next - self.filed - unfiled.len() as u64);
        self.store.open();
        self.store.push(&unfiled);
        self.filed = self.next;
    }

    fn take_news(&mut self) {
        for news in self.store.news() {
            match news {
                News::Replayed(mut lines) => {
                    let first = FIRST - lines.len() as u64;
                    (first..)
                        .zip(&mut lines)
                        .for_each(|(number, line)| line.number = number);
                    self.ring.put_before(lines);
                }
                News::Problem(text) => self.own(Level::Error, text),
            }
        }
    }
}

impl std::fmt::Debug for Logd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logd")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// Places among the fixed descriptors.
const CONTROL: usize = 0;
const QUERIES: usize = 1;
const KERNEL: usize = 2;
const STORE: usize = 3;

/// Under which name logd speaks itself.
const OWN_UNIT: &str = "logd";
const KERNEL_UNIT: &str = "kernel";
/// In bytes: a day of a quiet box, and little beside the memory of the smallest board.
const RING: usize = 4 << 20;
/// The number of the first line that is written now; lines of the files come before it.
const FIRST: u64 = 1 << 32;
/// As many as services a box can have, and below the descriptors a process may have.
const MAX_SOURCES: usize = 512;
/// Control frames and kernel messages that are taken before others have their turn.
const FRAMES_A_TURN: usize = 64;
const KERNEL_SHARE: usize = 256;
/// How often deadlines are looked after while there are some, and while there are none.
const TICK: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(60);
/// What PID 1 can spare at shutdown for the last lines.
const LAST_WRITE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_that_logd_names_itself_are_names() {
        for name in [OWN_UNIT, KERNEL_UNIT] {
            assert!(name.parse::<UnitName>().is_ok());
        }
    }
}
