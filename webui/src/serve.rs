//! Accepts connections and bounds them: how many, how long their heads may take.

use std::{io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::UnixListener, sync::Semaphore, time::sleep};

use crate::{
    host::Host,
    http::{Access, Site, respond},
};

/// The sockets that the dashboard is served on.
#[derive(Debug)]
pub struct Listeners {
    /// Behind the door: anyone may look, changes need the setup code.
    pub dashboard: UnixListener,
    /// For root on the box itself, who may do everything: its file mode must say 0600.
    pub local: UnixListener,
}

/// Why the dashboard is no longer served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket does not accept any more.
    #[error("the {socket} socket does not accept connections any more: start the manager again")]
    Accept {
        /// Which.
        socket: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The host is gone.
    #[error("the manager publishes no snapshots any more: start the manager again")]
    HostGone,
}

/// Serves the page and the API until a listener fails or `host` is gone.
///
/// # Errors
/// Always, in the end; it never returns otherwise.
pub async fn serve(listeners: Listeners, host: Arc<dyn Host>) -> Result<(), ServeError> {
    let site = Arc::new(Site::new(host.clone()));
    tokio::select! {
        error = accept(&listeners.dashboard, &site, Access::Dashboard) => Err(error),
        error = accept(&listeners.local, &site, Access::Local) => Err(error),
        () = site.feed.run(host) => Err(ServeError::HostGone),
    }
}

async fn accept(listener: &UnixListener, site: &Arc<Site>, access: Access) -> ServeError {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut failures = 0;
    loop {
        // Beyond that many, connections wait in the kernel's queue.
        let permit = room.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                failures = 0;
                let site = site.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let service = service_fn(|request| respond(site.clone(), access, request));
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_DEADLINE)
                        .max_buf_size(MAX_HEAD)
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    // How a connection ends is its other side's business.
                    let _ = connection.await;
                });
            }
            Err(source) if failures == MAX_FAILURES => {
                let socket = match access {
                    Access::Dashboard => "dashboard",
                    Access::Local => "local API",
                };
                return ServeError::Accept { socket, source };
            }
            // Mostly no descriptor or memory left for a moment.
            Err(_) => {
                failures += 1;
                sleep(PAUSE).await;
            }
        }
    }
}

/// A socket: the page's files come over six at most, and each page holds one more open.
const MAX_CONNECTIONS: usize = 256;
/// For a request's head; between requests, an idle connection may last that long too.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Of a request's head. The door allows no more.
const MAX_HEAD: usize = 16 * 1024;
/// After an `accept` that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// In a row; ten seconds' worth.
const MAX_FAILURES: u32 = 100;
