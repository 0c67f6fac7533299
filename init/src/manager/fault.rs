//! Fault injection, for tests alone: each known way to wedge a Tokio pool, on demand, and a service
//! behind the door that no package brings. Nothing of this is in a box's program.

use std::{
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Wake, Waker},
    time::Duration,
};

use netstack::door::{Route, RouteKind, Upstream};
use rustix::{
    fs::MemfdFlags,
    process::{Resource, Rlimit, Signal},
};
use supervise::{
    control::{Forward, Limits, Request, StartService, Transport},
    unit::{UnitInfo, UnitName},
};
use tokio::{runtime::Handle, sync::mpsc, task::block_in_place};

use super::{BLOCKING_THREADS, WORKERS};

/// Makes the pool fail in the way called `kind`, soon after this has returned.
///
/// # Errors
/// When there is no such way, or the kernel gives no thread.
pub(super) fn inject(kind: &str, pool: &Handle) -> Result<(), String> {
    let Some((_, fault)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        return Err(format!("the faults are {}", names.join(", ")));
    };
    let pool = pool.clone();
    std::thread::Builder::new()
        .name("fault".to_owned())
        .spawn(move || {
            // So that the answer to who asked gets out.
            std::thread::sleep(ANSWER_FIRST);
            fault(&pool);
        })
        .map(drop)
        .map_err(|e| e.to_string())
}

/// The services that tests have behind the door: lines `id address:port` of a file.
pub(super) fn routes() -> Vec<Route> {
    let lines = std::fs::read_to_string(ROUTES).unwrap_or_default();
    let route = |line: &str| {
        let (service, upstream) = line.split_once(' ')?;
        Some(Route {
            service: service.to_owned(),
            upstream: Upstream::Tcp(upstream.parse().ok()?),
            port: None,
            kind: RouteKind::Http,
        })
    };
    lines.lines().filter_map(route).collect()
}

/// A service that does nothing but live, with a plan that nobody reads: the native box's monitor is
/// this program.
pub(super) fn service() -> Result<(Request, OwnedFd), String> {
    let plan = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let spec = StartService {
        unit: UnitName::service(SERVICE).map_err(|e| e.to_string())?,
        spec_hash: [0; 32],
        stop_timeout_ms: 1000,
        stop_order: 0,
        limits: Limits::default(),
    };
    Ok((Request::StartService(spec), plan))
}

/// Whether it is that one, which the reconciler knows nothing of.
pub(super) fn is_ours(unit: &UnitInfo) -> bool {
    unit.unit.service_id() == Some(SERVICE)
}

/// The ports that tests have forwarded: lines `port address:port` of a file, over TCP.
pub(super) fn forwards() -> Vec<Forward> {
    let lines = std::fs::read_to_string(FORWARDS).unwrap_or_default();
    let forward = |line: &str| {
        let (port, to) = line.split_once(' ')?;
        Some(Forward {
            transport: Transport::Tcp,
            port: port.parse().ok()?,
            to: to.parse().ok()?,
        })
    };
    lines.lines().filter_map(forward).collect()
}

/// The host names of [`routes`].
pub(super) fn names() -> impl Iterator<Item = String> {
    routes()
        .into_iter()
        .map(|route| format!("{}.localhost", route.service))
}

type Fault = fn(&Handle);

/// By the letters of the notes on stalls: a, b1 to b3, c1 to c4, d, e, f; and being stopped.
const KINDS: &[(&str, Fault)] = &[
    ("condvar", |pool| on_every_worker(pool, for_ever)),
    ("mutex", mutex),
    ("sleep", |pool| {
        on_every_worker(pool, || std::thread::sleep(Duration::MAX));
    }),
    ("read", |pool| on_every_worker(pool, read)),
    ("driver-owner", driver_owner),
    ("driver-timer", driver_timer),
    ("attrition", |pool| {
        for _ in 0..WORKERS {
            driver_owner(pool);
            std::thread::sleep(Duration::from_millis(200));
        }
    }),
    ("waker", waker),
    ("lifo", lifo),
    ("pool-full", pool_full),
    ("pool-full-in-place", |pool| {
        pool_full(pool);
        on_every_worker(pool, || block_in_place(for_ever));
    }),
    ("in-place-storm", |pool| {
        for _ in 0..BLOCKING_THREADS * 2 {
            pool.spawn(async { block_in_place(for_ever) });
        }
    }),
    ("busy-all", |pool| on_every_worker(pool, spin)),
    ("busy-one", |pool| {
        pool.spawn(async { spin() });
    }),
    ("honest-load", honest_load),
    ("first", |_| crate::crash::fault::end_first_thread()),
    ("threads", threads),
    ("stderr", stderr),
    ("stop", |_| {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
    }),
];

/// More tasks than workers, so that each of these takes one.
fn on_every_worker(pool: &Handle, work: fn()) {
    for _ in 0..WORKERS * 4 {
        pool.spawn(async move { work() });
    }
}

fn for_ever() {
    let never = (Mutex::new(()), Condvar::new());
    let mut guard = never.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        guard = never.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

fn mutex(pool: &Handle) {
    static HELD: Mutex<()> = Mutex::new(());
    std::mem::forget(HELD.lock());
    on_every_worker(pool, || drop(HELD.lock()));
}

fn read() {
    if let Ok((read, write)) = rustix::pipe::pipe() {
        let _ = rustix::io::read(&read, &mut [0; 1]);
        drop(write);
    }
}

/// The worker that turns the I/O driver is woken for one event, and blocks in its task.
fn driver_owner(pool: &Handle) {
    let Ok((ours, theirs)) = UnixStream::pair() else {
        return;
    };
    pool.spawn(async move {
        let _ = theirs.set_nonblocking(true);
        if let Ok(stream) = tokio::net::UnixStream::from_std(theirs) {
            let _ = stream.readable().await;
            for_ever();
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let _ = (&ours).write_all(b"x");
    std::mem::forget(ours);
}

fn driver_timer(pool: &Handle) {
    pool.spawn(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for_ever();
    });
}

/// A waker that blocks: the worker that turns the I/O driver never comes back from it.
fn waker(pool: &Handle) {
    struct Blocks;
    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            for_ever();
        }
    }
    let _context = pool.enter();
    let Ok((ours, theirs)) = UnixStream::pair() else {
        return;
    };
    let _ = theirs.set_nonblocking(true);
    let Ok(watched) = tokio::net::UnixStream::from_std(theirs) else {
        return;
    };
    let blocks = Waker::from(Arc::new(Blocks));
    let _ = watched.poll_read_ready(&mut Context::from_waker(&blocks));
    std::mem::forget(watched);
    let _ = (&ours).write_all(b"x");
    std::mem::forget(ours);
}

/// A task wakes another, which waits in its worker's slot for one, and then blocks.
fn lifo(pool: &Handle) {
    let (send, mut receive) = mpsc::channel::<()>(1);
    pool.spawn(async move { receive.recv().await });
    std::thread::sleep(Duration::from_millis(100));
    pool.spawn(async move {
        let _ = send.try_send(());
        for_ever();
    });
}

/// No fault: hard and long work on every thread there is, which must be left alone.
fn honest_load(pool: &Handle) {
    let work = |time| {
        let end = std::time::Instant::now() + time;
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
    };
    for _ in 0..BLOCKING_THREADS {
        pool.spawn_blocking(move || work(LONG_WORK));
    }
    for _ in 0..WORKERS * 2 {
        pool.spawn(async move {
            let end = std::time::Instant::now() + LONG_WORK;
            while std::time::Instant::now() < end {
                work(Duration::from_millis(5));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

fn pool_full(pool: &Handle) {
    for _ in 0..BLOCKING_THREADS * 2 {
        pool.spawn_blocking(for_ever);
    }
}

/// No more threads; the pool finds out when it needs one.
fn threads(pool: &Handle) {
    pool.spawn_blocking(for_ever);
    std::thread::sleep(Duration::from_millis(100));
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    let _ = rustix::process::setrlimit(Resource::Nproc, none);
    on_every_worker(pool, || block_in_place(for_ever));
}

/// Standard error is a pipe that nobody reads, and every task logs.
fn stderr(pool: &Handle) {
    let Ok((read, write)) = rustix::pipe::pipe() else {
        return;
    };
    let _ = rustix::io::ioctl_fionbio(write.as_fd(), true);
    while rustix::io::write(&write, &[b'.'; 512]).is_ok() {}
    let _ = rustix::io::ioctl_fionbio(write.as_fd(), false);
    let _ = rustix::stdio::dup2_stderr(&write);
    std::mem::forget((read, write));
    on_every_worker(pool, || supervise::info!("nobody hears this"));
}

const ANSWER_FIRST: Duration = Duration::from_millis(100);
const LONG_WORK: Duration = Duration::from_secs(15);
const SERVICE: &str = "fault";
const ROUTES: &str = "/data/fault/routes";
const FORWARDS: &str = "/data/fault/forwards";
