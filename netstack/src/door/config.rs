//! What the door is told to be: certificate, dashboard, routes. One value, replaced as a whole.
//!
//! These types pass the control socket, so they are plain data: nothing in them is checked yet. The
//! routing table ([`super::vhost`]) and the TLS part ([`super::tls`]) check what they take.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What the door should be. Replacing it drops no live connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorConfig {
    /// The box's host name, without domain.
    pub hostname: String,
    /// Certificate and key to show; a throw-away one of the door's own while there is none.
    pub identity: Option<Identity>,
    /// The certificate of the box's own authority, offered for download on port 80.
    pub ca_pem: Option<String>,
    /// Where the dashboard is.
    pub dashboard: Upstream,
    /// Where the services are.
    pub routes: Vec<Route>,
}

/// A certificate chain and its private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The leaf first, then what signed it; each DER.
    pub chain_der: Vec<Vec<u8>>,
    /// The leaf's private key, PKCS#8 DER.
    pub key_der: Vec<u8>,
}

/// The key stays out of logs and panic messages.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.chain_der.len())
            .finish_non_exhaustive()
    }
}

/// The way to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The service's id: the first label of its host name.
    pub service: String,
    /// Where it listens.
    pub upstream: Upstream,
    /// A TLS port of the box that is this service's alone, whatever the host name.
    pub port: Option<u16>,
    /// What is done with the bytes.
    pub kind: RouteKind,
}

/// What the door does with connections for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// It ends TLS and passes HTTP requests on.
    #[default]
    Http,
    /// It reads nothing but the name that the client asks for and passes TLS on as it is: the
    /// service has its own certificate.
    PassThrough,
}

/// Where requests are passed on to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Upstream {
    /// A TCP address, usually in a service's network.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl Default for Upstream {
    /// Where PID 1 binds the dashboard's socket.
    fn default() -> Self {
        Self::Unix(PathBuf::from(DASHBOARD_SOCKET))
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The dashboard's listening socket: made by PID 1, so that it outlives every manager.
const DASHBOARD_SOCKET: &str = "/run/pilot/dashboard.sock";
