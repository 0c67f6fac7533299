//! logd's promises, on real sockets: it takes everything, waits for nobody, and says what it lost.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use init::logd::{self, Setup};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use supervise::{
    control::{self, Event, Request},
    log::Level,
    log_query::{self, Answer, Client, LogLine, Query, QueryError},
    status::BoxStatus,
    unit::{UnitInfo, UnitName, UnitState},
};

/// PID 1's part: what it keeps for one `logd` after another.
struct Keeper {
    directory: PathBuf,
    listener: UnixListener,
}

/// A running `logd`.
struct Running {
    control: OwnedFd,
    thread: JoinHandle<()>,
}

impl Keeper {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("logs")).unwrap();
        let listener = UnixListener::bind(directory.join("log.sock")).unwrap();
        Self {
            directory,
            listener,
        }
    }

    fn start(&self) -> Running {
        let (control, theirs) = packets();
        let setup = Setup {
            control: theirs,
            queries: self.listener.try_clone().unwrap().into(),
            kernel: None,
            directory: self.logs(),
        };
        let thread = std::thread::spawn(|| logd::serve(setup).unwrap());
        let (hello, _) = control::receive::<Request>(control.as_fd()).unwrap();
        assert!(matches!(hello, Request::Hello { .. }));
        Running { control, thread }
    }

    fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("log.sock")
    }

    fn lines(&self, unit: &str) -> Vec<LogLine> {
        log_query::fetch(&self.socket(), &query(Some(unit), false), PATIENCE).unwrap()
    }

    fn texts(&self, unit: &str) -> Vec<String> {
        self.lines(unit).into_iter().map(|line| line.text).collect()
    }

    /// Waits until the unit's lines are as wished.
    fn wait_for(&self, unit: &str, wish: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let texts = self.texts(unit);
            if wish(&texts) {
                return texts;
            }
            let last = &texts[texts.len().saturating_sub(3)..];
            assert!(
                Instant::now() < deadline,
                "{unit} has only {} lines, at last {last:.200?}",
                texts.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Running {
    fn tell(&self, event: &Event) {
        control::send(self.control.as_fd(), event, &[]).unwrap();
    }

    fn give(&self, unit: &str, source: &OwnedFd) {
        let event = Event::LogSource { unit: name(unit) };
        control::send(self.control.as_fd(), &event, &[source.as_fd()]).unwrap();
    }

    fn end(self) {
        drop(self.control);
        self.thread.join().unwrap();
    }
}

fn name(unit: &str) -> UnitName {
    unit.parse().unwrap()
}

fn query(unit: Option<&str>, follow: bool) -> Query {
    Query {
        unit: unit.map(name),
        lines: 100_000,
        follow,
        level: Level::Debug,
    }
}

fn packets() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn write(fd: &OwnedFd, text: impl AsRef<[u8]>) {
    rustix::io::write(fd, text.as_ref()).unwrap();
}

fn file(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn wait_for_file(path: &Path, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !file(path).contains(text) {
        assert!(
            Instant::now() < deadline,
            "{text:?} is not in {:?}",
            file(path)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn lines_come_from_packets_streams_and_pipes() {
    let keeper = Keeper::new("sources");
    let logd = keeper.start();
    let (packet, packet_reader) = packets();
    let (stream, stream_reader) = std::os::unix::net::UnixStream::pair().unwrap();
    let (pipe_reader, mut pipe) = std::io::pipe().unwrap();
    logd.give("front", &packet_reader);
    logd.give("manager", &stream_reader.into());
    logd.give("service-demo", &pipe_reader.into());
    write(&packet, "<4>slow\n");
    write(&packet, "");
    write(&packet, "no line end");
    write(&OwnedFd::from(stream), "in\ntwo\n");
    pipe.write_all(b"half a ").unwrap();
    pipe.write_all(b"line\n\x1b[2Jtricks\n").unwrap();
    drop(pipe);
    keeper.wait_for("front", |texts| texts == ["slow", "no line end"]);
    assert_eq!(keeper.lines("front")[0].level, Level::Warning);
    keeper.wait_for("manager", |texts| texts == ["in", "two"]);
    keeper.wait_for("service-demo", |texts| {
        texts == ["half a line", "\\x1b[2Jtricks"]
    });
    logd.end();
}

#[test]
fn a_flood_is_counted_and_others_are_heard_meanwhile() {
    const FLOOD: usize = 200_000;
    let keeper = Keeper::new("flood");
    let logd = keeper.start();
    let ((flood, flood_reader), (quiet, quiet_reader)) = (packets(), packets());
    logd.give("service-noisy", &flood_reader);
    logd.give("front", &quiet_reader);
    let flooding = std::thread::spawn(move || {
        let packet = "x\n".repeat(100);
        (0..FLOOD / 100).for_each(|_| write(&flood, &packet));
        write(&flood, "the end");
    });
    write(&quiet, "still heard\n");
    keeper.wait_for("front", |texts| texts == ["still heard"]);
    flooding.join().unwrap();
    let texts = keeper.wait_for("service-noisy", |texts| {
        passed(texts) + dropped(texts) == FLOOD + 1
    });
    assert!(dropped(&texts) > 0, "so many lines are not to be kept");
    assert_eq!(keeper.texts("front"), ["still heard"]);
    logd.end();
}

fn passed(texts: &[String]) -> usize {
    texts
        .iter()
        .filter(|text| *text == "x" || *text == "the end")
        .count()
}

fn dropped(texts: &[String]) -> usize {
    let counts = texts
        .iter()
        .filter_map(|text| text.strip_prefix('(')?.split_once(' '));
    counts
        .map(|(count, _)| count.parse::<usize>().unwrap())
        .sum()
}

#[test]
fn who_follows_gets_new_lines_and_who_does_not_read_is_cut_off() {
    let keeper = Keeper::new("follow");
    let logd = keeper.start();
    let (writer, reader) = packets();
    logd.give("front", &reader);
    write(&writer, "before\n");
    keeper.wait_for("front", |texts| texts == ["before"]);
    let mut follower = Client::ask(&keeper.socket(), &query(Some("front"), true)).unwrap();
    let mut sleeper = Client::ask(&keeper.socket(), &query(None, true)).unwrap();
    assert_eq!(next_text(&mut follower), "before");
    assert_eq!(follower.next(PATIENCE).unwrap(), Some(Answer::CaughtUp));
    write(&writer, "after\n");
    assert_eq!(next_text(&mut follower), "after");
    // As many as its quota lets pass at once: more than fit a socket and a follower's queue.
    let long = "y".repeat(200) + "\n";
    for _ in 0..9000 {
        write(&writer, &long);
        assert_eq!(next_text(&mut follower).len(), 200);
    }
    let ended =
        std::iter::repeat_with(|| sleeper.next(PATIENCE)).find(|got| !matches!(got, Ok(Some(_))));
    assert!(matches!(ended, Some(Err(QueryError::Closed))), "{ended:?}");
    logd.end();
}

fn next_text(client: &mut Client) -> String {
    match client.next(PATIENCE).unwrap() {
        Some(Answer::Line(line)) => line.text,
        other => panic!("{other:?} instead of a line"),
    }
}

#[test]
fn files_begin_with_what_was_said_before_data_was_there() {
    let keeper = Keeper::new("late");
    let logd = keeper.start();
    let (writer, reader) = packets();
    logd.give("front", &reader);
    write(&writer, "early\n");
    keeper.wait_for("front", |texts| texts == ["early"]);
    assert_eq!(fs::read_dir(keeper.logs()).unwrap().count(), 0);
    logd.tell(&Event::Data(Ok(())));
    write(&writer, "late\n");
    let path = keeper.logs().join("front.log");
    wait_for_file(&path, "late");
    let text = file(&path);
    assert!(
        text.find("early").unwrap() < text.find("late").unwrap(),
        "{text}"
    );
    logd.tell(&Event::Data(Ok(())));
    logd.tell(&Event::Data(Err("unmounted".into())));
    logd.end();
    assert_eq!(file(&path), text, "nothing is written twice");
}

#[test]
fn a_successor_goes_on_with_the_same_sources_and_the_files_lines() {
    let keeper = Keeper::new("successor");
    let (writer, reader) = packets();
    let first = keeper.start();
    first.give("front", &reader);
    first.tell(&Event::Data(Ok(())));
    write(&writer, "to the first\n");
    wait_for_file(&keeper.logs().join("front.log"), "to the first");
    first.end();
    write(&writer, "to nobody yet\n");
    let second = keeper.start();
    second.give("front", &reader);
    second.tell(&Event::Status(Box::new(restarted())));
    second.tell(&Event::Data(Ok(())));
    keeper.wait_for("front", |texts| texts == ["to the first", "to nobody yet"]);
    keeper.wait_for("logd", |texts| {
        texts.iter().any(|text| text.contains("started again"))
    });
    assert!(!keeper.lines("front")[0].earlier_boot);
    second.end();
}

fn restarted() -> BoxStatus {
    let logd = UnitInfo {
        unit: name("logd"),
        state: UnitState::Running,
        pid: Some(7),
        generation: 2,
        spec_hash: [0; 32],
        restarts: 1,
        since: Duration::ZERO,
    };
    BoxStatus {
        roles: vec![logd],
        ..Default::default()
    }
}

/// A FIFO where the file should be: writing to it hangs until somebody reads, as any call does on
/// a disk that is gone.
#[test]
fn a_hanging_disk_holds_up_neither_lines_nor_readers() {
    const UNITS: [&str; 3] = ["front", "init", "manager"];
    let keeper = Keeper::new("hang");
    let fifo = keeper.logs().join("front.log");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let logd = keeper.start();
    logd.tell(&Event::Data(Ok(())));
    let writers = UNITS.map(|unit| {
        let (writer, reader) = packets();
        logd.give(unit, &reader);
        writer
    });
    let long = "z".repeat(250) + "\n";
    for batch in 0..3 {
        let last = format!("batch {batch}");
        for writer in &writers {
            (0..2500).for_each(|_| write(writer, &long));
            write(writer, &(last.clone() + "\n"));
        }
        for unit in UNITS {
            keeper.wait_for(unit, |texts| texts.last() == Some(&last));
        }
    }
    let disk = Arc::new(Mutex::new(Vec::new()));
    let (back, mut end) = (Arc::clone(&disk), fs::File::open(&fifo).unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(n @ 1..) = end.read(&mut bytes) {
            back.lock().unwrap().extend_from_slice(&bytes[..n]);
        }
    });
    let missing = "lines of all units are missing: the disk was behind";
    let deadline = Instant::now() + PATIENCE;
    loop {
        write(&writers[0], "the disk is back\n");
        let on_disk = String::from_utf8_lossy(&disk.lock().unwrap()).into_owned();
        let logs = keeper.logs();
        let files = ["init.log", "manager.log"].map(|name| file(&logs.join(name)));
        if (on_disk + &files.concat()).contains(missing) {
            break;
        }
        assert!(Instant::now() < deadline, "nobody says what was lost");
        std::thread::sleep(Duration::from_millis(20));
    }
    logd.end();
}

#[test]
fn a_disk_that_refuses_is_said_in_the_log_itself() {
    let keeper = Keeper::new("refused");
    fs::remove_dir(keeper.logs()).unwrap();
    let logd = keeper.start();
    logd.tell(&Event::Data(Ok(())));
    let texts = keeper.wait_for("logd", |texts| !texts.is_empty());
    assert!(texts[0].contains("can't be written"), "{texts:?}");
    logd.end();
}

#[test]
fn hostile_clients_and_frames_cost_themselves_only() {
    let keeper = Keeper::new("hostile");
    let logd = keeper.start();
    rustix::io::write(&logd.control, &[0xff; 100]).unwrap();
    let mut garbage = std::os::unix::net::UnixStream::connect(keeper.socket()).unwrap();
    garbage.write_all(&[0xff; 64]).unwrap();
    assert_eq!(garbage.read(&mut [0; 8]).unwrap_or(0), 0, "it is cut off");
    keeper.wait_for("logd", |texts| {
        texts.iter().any(|text| text.contains("makes no sense"))
    });
    let silent: Vec<_> = (0..40)
        .map(|_| std::os::unix::net::UnixStream::connect(keeper.socket()).unwrap())
        .collect();
    let full = log_query::fetch(&keeper.socket(), &query(None, false), PATIENCE);
    assert!(
        matches!(
            full,
            Err(QueryError::Refused(_) | QueryError::Closed | QueryError::Io(_))
        ),
        "{full:?}"
    );
    drop(silent);
    let deadline = Instant::now() + PATIENCE;
    while log_query::fetch(&keeper.socket(), &query(None, false), PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "there is room again");
    }
    logd.end();
}
