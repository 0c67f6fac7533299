//! The manager's side of the heartbeat: a plain thread takes the guard's beats and has each given
//! back by the part of the pool that it asks about; what the workers do it answers itself.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags};
use tokio::runtime::Handle;

use crate::guard::{Beat, Kind};

/// Starts the thread.
///
/// # Errors
/// When the kernel gives no thread.
pub(super) fn spawn(socket: OwnedFd, pool: Handle) -> io::Result<()> {
    let socket = Arc::new(socket);
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(move || {
            loop {
                take(&socket, &pool);
            }
        })?;
    Ok(())
}

fn take(socket: &Arc<OwnedFd>, pool: &Handle) {
    let mut bytes = [0; Beat::LEN + 1];
    let Ok(n) = rustix::io::read(&**socket, &mut bytes) else {
        let mut ready = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        let _ = rustix::event::poll(&mut ready, None);
        return;
    };
    let Some(mut beat) = Beat::from_bytes(&bytes[..n]) else {
        return;
    };
    let socket = socket.clone();
    match beat.kind {
        Kind::Spawn => {
            pool.spawn(async move { answer(&socket, beat) });
        }
        Kind::Driver => {
            pool.spawn(async move {
                tokio::time::sleep(THROUGH_THE_DRIVER).await;
                answer(&socket, beat);
            });
        }
        Kind::Blocking => {
            pool.spawn_blocking(move || answer(&socket, beat));
        }
        Kind::Workers => {
            beat.workers = super::workers::all();
            answer(&socket, beat);
        }
    }
}

/// A full socket means a guard that is far behind; a beat more or less is nothing then.
fn answer(socket: &OwnedFd, beat: Beat) {
    let _ = rustix::io::write(socket, &beat.to_bytes());
}

/// Any time that is not zero: a timer only fires when a worker turns the driver.
const THROUGH_THE_DRIVER: Duration = Duration::from_millis(1);
