//! A dashboard on sockets of its own, and a client that speaks HTTP and WebSocket to it.

#![allow(dead_code, reason = "each test file uses another part of it")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HeaderMap, upgrade};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use webui::Listeners;

use crate::fake::Fake;

pub(crate) type Socket = WebSocketStream<TokioIo<upgrade::Upgraded>>;

/// A served dashboard with a made-up host.
pub(crate) struct Dashboard {
    pub(crate) host: Arc<Fake>,
    dir: PathBuf,
    task: JoinHandle<()>,
}

impl Dashboard {
    pub(crate) fn start() -> Self {
        Self::with(Fake::new())
    }

    pub(crate) fn with(host: Fake) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("webui-{}-{unique}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let listeners = Listeners {
            dashboard: UnixListener::bind(dir.join(NETWORK)).unwrap(),
            local: UnixListener::bind(dir.join(LOCAL)).unwrap(),
        };
        let host = Arc::new(host);
        let served = host.clone();
        let task = tokio::spawn(async move { webui::serve(listeners, served).await.unwrap() });
        Self { host, dir, task }
    }

    /// As somebody behind the door.
    pub(crate) fn network(&self) -> Client {
        Client(self.dir.join(NETWORK))
    }

    /// As root on the box.
    pub(crate) fn local(&self) -> Client {
        Client(self.dir.join(LOCAL))
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) struct Client(PathBuf);

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.send("POST", path, headers, body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let stream = TokioIo::new(UnixStream::connect(&self.0).await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = request(method, path, headers, body);
        let reply = timeout(DEADLINE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = reply.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// Opens the WebSocket, or says with which status it was refused.
    pub(crate) async fn upgrade(&self, headers: &[(&str, &str)]) -> Result<Socket, StatusCode> {
        let stream = TokioIo::new(UnixStream::connect(&self.0).await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let handshake = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = request("GET", "/ws", &[&handshake, headers].concat(), "");
        let reply = timeout(DEADLINE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(reply.status());
        }
        // The answer to that key (RFC 6455, 1.3).
        assert_eq!(
            reply.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let stream = TokioIo::new(upgrade::on(reply).await.unwrap());
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
    }
}

/// The next frame.
pub(crate) async fn frame(socket: &mut Socket) -> Value {
    let message = timeout(DEADLINE, socket.next())
        .await
        .expect("no frame came in time");
    let message = message.expect("the socket was closed").unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "box.local");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

const NETWORK: &str = "dashboard.sock";
const LOCAL: &str = "api.sock";
const DEADLINE: Duration = Duration::from_secs(20);
