//! One browser's WebSocket: a dump, then patches, and a heartbeat.
//!
//! Frames to the page: `{dump, seq, ui, log, uptimeMs}`, `{seq, ops, log}`, `{hb}`. The page may say
//! `{"resync":true}` when it finds a gap in `seq`, and gets a dump; nothing else it says matters.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    upgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast::error::RecvError},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::http::{Reply, Site};

/// Accepts the upgrade and serves the socket from a task of its own; `None` if `request` asks for
/// no WebSocket. The socket holds `permit` as long as it is open.
pub(crate) fn accept(
    site: Arc<Site>,
    mut request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
) -> Option<Reply> {
    let key = handshake_key(request.headers())?;
    let mut reply: Reply = Response::default();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, key),
    ] {
        reply.headers_mut().insert(name, value);
    }
    let upgraded = upgrade::on(&mut request);
    tokio::spawn(async move {
        let _permit = permit;
        let Ok(Ok(stream)) = timeout(SEND_DEADLINE, upgraded).await else {
            return;
        };
        let stream = TokioIo::new(stream);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        serve(&site, socket).await;
    });
    Some(reply)
}

/// The answer to the key of a WebSocket handshake (RFC 6455, 4.2), if it is one.
fn handshake_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name: HeaderName, word: &str| {
        let value = headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        value
            .split(',')
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    let asked = lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && lists(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    derive_accept_key(key.as_bytes()).parse().ok()
}

type Socket = WebSocketStream<TokioIo<upgrade::Upgraded>>;

async fn serve(site: &Site, mut socket: Socket) {
    let (dump, mut changes) = site.feed.subscribe();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frame = Some(dump);
    loop {
        if let Some(frame) = frame.take()
            && !send(&mut socket, frame).await
        {
            return;
        }
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => frame = Some(change),
                Err(RecvError::Lagged(_)) => {
                    let (dump, fresh) = site.feed.subscribe();
                    (frame, changes) = (Some(dump), fresh);
                }
                Err(RecvError::Closed) => return,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) if text.as_str() == RESYNC => {
                    let (dump, fresh) = site.feed.subscribe();
                    (frame, changes) = (Some(dump), fresh);
                }
                // Pings are answered by the library, with the next frame.
                Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_))
                | None => return,
            },
            _ = heartbeat.tick() => frame = Some(site.feed.heartbeat()),
        }
    }
}

/// Whether the frame went out in time. Meanwhile changes are lost, and a dump makes up for them.
async fn send(socket: &mut Socket, frame: Utf8Bytes) -> bool {
    matches!(
        timeout(SEND_DEADLINE, socket.send(Message::Text(frame))).await,
        Ok(Ok(()))
    )
}

const RESYNC: &str = r#"{"resync":true}"#;
/// The page takes three missed ones for a lost server.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A page that takes nothing for that long is not looked at by anyone.
const SEND_DEADLINE: Duration = Duration::from_secs(20);
/// Of what a page may say; it says almost nothing.
const MAX_MESSAGE: usize = 4096;
