//! What the agents in the containers say of themselves.

use std::{
    collections::BTreeMap,
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use services::{
    report::{AgentReport, MAX_REPORT},
    view::Heard,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UnixStream,
    sync::Notify,
};

/// The last report of each agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Agents {
    reports: Arc<Mutex<BTreeMap<String, (AgentReport, Instant)>>>,
    news: Arc<Notify>,
}

impl Agents {
    /// Listens for the agent of service `id` on a socket that PID 1 made.
    pub(super) fn listen(&self, id: String, listener: OwnedFd) {
        let listener = UnixListener::from(listener);
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(listener));
        let agents = self.clone();
        match listener {
            Ok(listener) => {
                tokio::spawn(async move {
                    // One at a time: a container has one agent, and nobody else is to be heard.
                    while let Ok((stream, _)) = listener.accept().await {
                        agents.hear(&id, stream).await;
                    }
                });
            }
            Err(e) => supervise::error!("the agent of {id} can't be heard: {e}"),
        }
    }

    /// The last reports with their age.
    pub(super) fn heard(&self) -> BTreeMap<String, Heard> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = |(report, at): &(AgentReport, Instant)| Heard {
            report: report.clone(),
            age: at.elapsed(),
        };
        reports
            .iter()
            .map(|(id, report)| (id.clone(), heard(report)))
            .collect()
    }

    /// Forgets what the agent of a run that ended has said.
    pub(super) fn forget(&self, id: &str) {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Ends at the next report.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    async fn hear(&self, id: &str, stream: UnixStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut reader).take(MAX_REPORT as u64);
            match bounded.read_until(b'\n', &mut line).await {
                Ok(1..) if line.ends_with(b"\n") => {}
                Ok(_) | Err(_) => return,
            }
            match serde_json::from_slice::<AgentReport>(&line) {
                Ok(report) => {
                    let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
                    reports.insert(id.to_owned(), (report, Instant::now()));
                    drop(reports);
                    self.news.notify_one();
                }
                Err(e) => {
                    supervise::warning!("the agent of {id} said something strange: {e}");
                    return;
                }
            }
        }
    }
}
