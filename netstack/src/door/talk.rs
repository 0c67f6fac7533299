//! What is spoken with one client: one request after another, or many at once.

use std::time::Instant;

use super::{
    flow::{Flow, Side},
    http2::Connection,
    limits::Limits,
    session::{Session, Wait},
    site::{Failure, Site},
};

/// A conversation, in the version that the client chose.
pub(super) enum Talk {
    Http1(Box<Session>),
    Http2(Box<Connection>),
}

impl Talk {
    /// The bytes that come from the client's socket and go to it.
    pub(super) fn side(&mut self) -> &mut Side {
        match self {
            Self::Http1(session) => &mut session.flow.client,
            Self::Http2(connection) => &mut connection.side,
        }
    }

    /// The bytes of one exchange; over HTTP/1.1 there is only stream 0.
    pub(super) fn flow(&mut self, stream: u32) -> Option<&mut Flow> {
        match self {
            Self::Http1(session) => Some(&mut session.flow),
            Self::Http2(connection) => connection.stream(stream).map(|stream| &mut stream.flow),
        }
    }

    /// The connection that an exchange asked for is there or on its way.
    pub(super) fn linked(&mut self, stream: u32, link: usize, pooled: bool, now: Instant) {
        match self {
            Self::Http1(session) => session.linked(pooled, now),
            Self::Http2(connection) => {
                if let Some(stream) = connection.stream(stream) {
                    stream.linked(pooled, now);
                }
            }
        }
        if let Some(flow) = self.flow(stream) {
            flow.link = Some(link);
        }
    }

    /// The connection that an exchange asked for is complete.
    pub(super) fn connected(&mut self, stream: u32, now: Instant) {
        match self {
            Self::Http1(session) => session.connected(now),
            Self::Http2(connection) => {
                if let Some(stream) = connection.stream(stream) {
                    stream.connected(now);
                }
            }
        }
    }

    /// The connection that an exchange asked for can't be had: why.
    pub(super) fn failed(&mut self, stream: u32, failure: Failure, site: &Site, now: Instant) {
        match self {
            Self::Http1(session) => session.failed(failure, site, now),
            Self::Http2(connection) => {
                if let Some(stream) = connection.stream(stream) {
                    stream.failed(failure, site, now);
                }
            }
        }
    }

    /// Something has happened to an exchange.
    pub(super) fn wake(&mut self, stream: u32) {
        if let Self::Http2(connection) = self {
            connection.wake(stream);
        }
    }

    /// The connection to the client is lost; what it held of others is given back.
    pub(super) fn abort(&mut self, now: Instant) -> Vec<usize> {
        match self {
            Self::Http1(session) => {
                session.abort(now);
                session.flow.link.take().into_iter().collect()
            }
            Self::Http2(connection) => {
                connection.abort(now);
                connection.orphans()
            }
        }
    }

    /// Deadlines have come; the connections that are to be closed for them.
    pub(super) fn expire(
        &mut self,
        wait: Wait,
        site: &Site,
        limits: &Limits,
        now: Instant,
    ) -> Vec<usize> {
        match self {
            Self::Http1(session) => {
                session.expire(wait, site, now);
                let keeps = matches!(wait, Wait::Head | Wait::Idle | Wait::Redial);
                let link = (!keeps).then(|| session.flow.link.take()).flatten();
                link.into_iter().collect()
            }
            Self::Http2(connection) => {
                connection.expire(site, limits, now);
                connection.orphans()
            }
        }
    }

    /// When waiting ends, and for what.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        match self {
            Self::Http1(session) => session.deadline(limits),
            Self::Http2(connection) => connection.deadline(limits),
        }
    }

    /// Since when nothing has been under way; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self {
            Self::Http1(session) => session.is_idle().then_some(session.flow.client.moved),
            Self::Http2(connection) => connection.is_idle().then_some(connection.side.moved),
        }
    }

    /// Gives back memory that holds nothing.
    pub(super) fn relax(&mut self) {
        match self {
            Self::Http1(session) => session.flow.relax(),
            Self::Http2(connection) => connection.relax(),
        }
    }

    /// The memory it holds for bytes on their way.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Http1(session) => session.flow.held(),
            Self::Http2(connection) => connection.held(),
        }
    }
}
