//! The manager: everything about the box that is asynchronous and rich, on a Tokio pool, in a
//! process that PID 1 replaces when it wedges.
//!
//! It starts without its store: on a disk that hangs or can't be used it shows what PID 1 shows,
//! says why, and tries again. It listens on no network socket (those it has are Unix sockets made
//! by PID 1), and spawns nothing itself.

mod agents;
mod authority;
mod door;
#[cfg(feature = "fault")]
mod fault;
mod heartbeat;
mod host;
mod link;
mod logs;
mod questions;
mod steward;
mod store;
mod view;
mod workers;

use std::{
    os::unix::net::UnixListener,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use supervise::control::CONTROL_FD;
use webui::Listeners;

use self::{host::Desk, link::Link, steward::Steward};
use crate::pid1::HEARTBEAT_FD;

pub use workers::Worker;

/// Runs the manager until PID 1 ends it or it can't go on.
pub fn run() -> ExitCode {
    // What it writes is its own: keys among it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let pool = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name_fn(thread_name())
        .on_thread_start(workers::started)
        .on_thread_park(workers::turned)
        .on_thread_unpark(workers::turned)
        .enable_all()
        .build();
    let ended = match pool {
        Ok(pool) => serve(&pool),
        Err(e) => Err(format!("no Tokio pool: {e}")),
    };
    if let Err(why) = ended {
        supervise::error!("the manager ends: {why}");
    }
    ExitCode::FAILURE
}

fn serve(pool: &tokio::runtime::Runtime) -> Result<(), String> {
    let handle = pool.handle().clone();
    heartbeat::spawn(crate::inherited::take(HEARTBEAT_FD), handle)
        .map_err(|e| format!("no heartbeat: {e}"))?;
    let control = crate::inherited::take(CONTROL_FD);
    let dashboard = UnixListener::from(crate::inherited::take(DASHBOARD_FD));
    let local = UnixListener::from(crate::inherited::take(API_FD));
    pool.block_on(async {
        let (link, events) = Link::open(control).map_err(|e| format!("no control: {e}"))?;
        let (desk, orders) = Desk::new(link.clone());
        let desk = Arc::new(desk);
        let listeners = Listeners {
            dashboard: tokio_listener(dashboard)?,
            local: tokio_listener(local)?,
        };
        let steward = Steward::new(link, desk.clone());
        tokio::select! {
            ended = webui::serve(listeners, desk) => {
                Err(ended.err().map_or_else(String::new, |e| e.to_string()))
            }
            () = steward.run(events, orders) => Err("its control socket is closed".to_owned()),
        }
    })
}

/// Workers are started first. The guard tells them from the threads for what blocks by their names.
fn thread_name() -> impl Fn() -> String {
    let started = AtomicUsize::new(0);
    move || match started.fetch_add(1, Ordering::Relaxed) {
        n if n < WORKERS => format!("{}{n}", workers::NAME),
        n => format!("blocking-{n}"),
    }
}

fn tokio_listener(listener: UnixListener) -> Result<tokio::net::UnixListener, String> {
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixListener::from_std(listener))
        .map_err(|e| format!("a listening socket of PID 1's can't be used: {e}"))
}

/// A box has few cores, and the pool is for its own work alone.
pub(crate) const WORKERS: usize = 2;
/// Each may hang on the disk; more than a few are a sign that it does.
pub(crate) const BLOCKING_THREADS: usize = 32;
const DASHBOARD_FD: i32 = 4;
const API_FD: i32 = 5;
