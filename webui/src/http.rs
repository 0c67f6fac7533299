//! Paths, headers, and who gets what.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    api,
    assets::{self, Asset},
    auth::Throttle,
    feed::Feed,
    host::Host,
    methods, origin, socket, upload,
};

/// What all connections share.
pub(crate) struct Site {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) feed: Feed,
    pub(crate) throttle: Mutex<Throttle>,
    /// One permit an open WebSocket.
    pub(crate) sockets: Arc<Semaphore>,
}

/// Where a request came in, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// From the network, through the door: look, and change with the setup code.
    Dashboard,
    /// From root on the box itself.
    Local,
}

pub(crate) type Reply = Response<Full<Bytes>>;

impl Site {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            feed: Feed::new(),
            throttle: Mutex::default(),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
        }
    }
}

/// Answers one request.
pub(crate) async fn respond(
    site: Arc<Site>,
    access: Access,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let mut reply = route(&site, access, request).await;
    for (name, value) in HEADERS {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(reply)
}

async fn route(site: &Arc<Site>, access: Access, request: Request<Incoming>) -> Reply {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/" if reading => file(&assets::HOME, NO_CACHE, &request),
        "/api" if reading => json(StatusCode::OK, &methods::describe()),
        "/api" if request.method() == Method::POST => post(site, access, request).await,
        upload::INIT if request.method() == Method::POST => {
            upload::init(site, access, request).await
        }
        "/ws" if request.method() == Method::GET => open_socket(site, access, request),
        path if path.starts_with("/assets/") && reading => match assets::find(path) {
            Some(asset) => file(asset, FOR_EVER, &request),
            // Never the page instead: caches would keep it as that script or font.
            None => text(StatusCode::NOT_FOUND, "There is no such file.\n"),
        },
        "/" | "/api" | "/ws" | upload::INIT => {
            text(StatusCode::METHOD_NOT_ALLOWED, "Not with this method.\n")
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "There is nothing here. The dashboard is at /.\n",
        ),
    }
}

async fn post(site: &Arc<Site>, access: Access, request: Request<Incoming>) -> Reply {
    if access == Access::Dashboard && !origin::is_ours(request.headers()) {
        return text(StatusCode::FORBIDDEN, FOREIGN);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await else {
        return text(
            StatusCode::REQUEST_TIMEOUT,
            "The request took too long to arrive.\n",
        );
    };
    match body {
        Ok(body) => api::answer(site, access, &head.headers, &body.to_bytes()).await,
        Err(_) => text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "A request has at most 64 KiB.\n",
        ),
    }
}

fn open_socket(site: &Arc<Site>, access: Access, request: Request<Incoming>) -> Reply {
    if access == Access::Dashboard && !origin::is_ours(request.headers()) {
        return text(StatusCode::FORBIDDEN, FOREIGN);
    }
    let Ok(permit) = site.sockets.clone().try_acquire_owned() else {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many pages are open.\n",
        );
    };
    let Some(reply) = socket::accept(site.clone(), request, permit) else {
        let mut reply = text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket.\n");
        reply
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return reply;
    };
    reply
}

fn file(asset: &Asset, cache: &'static str, request: &Request<Incoming>) -> Reply {
    let asked = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
    let known = asked(header::IF_NONE_MATCH).unwrap_or_default();
    let unchanged = known
        .split(',')
        .any(|tag| tag.trim().trim_start_matches("W/") == asset.etag);
    let takes_gzip = asked(header::ACCEPT_ENCODING).is_some_and(accepts_gzip);
    let (body, encoding) = match asset.gzip.filter(|_| takes_gzip) {
        Some(gzip) => (gzip, Some("gzip")),
        None => (asset.plain, None),
    };
    let mut reply = bytes(StatusCode::OK, asset.media_type, Bytes::from_static(body));
    if unchanged {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        *reply.body_mut() = Full::default();
    } else if let Some(encoding) = encoding {
        reply
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    reply
}

/// Whether `gzip` is among the codings of an `Accept-Encoding`, and not with a weight of nothing.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0")
    })
}

/// A reply in JSON; never kept, it is of now.
pub(crate) fn json(status: StatusCode, value: &Value) -> Reply {
    let mut reply = bytes(status, "application/json", value.to_string().into());
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A reply of one sentence.
pub(crate) fn text(status: StatusCode, sentence: &'static str) -> Reply {
    let mut reply = bytes(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(sentence.as_bytes()),
    );
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn bytes(status: StatusCode, media_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// On every reply.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];
const NO_CACHE: &str = "no-cache";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
pub(crate) const FOREIGN: &str = "Another site sent this. Open the dashboard itself.\n";
/// The largest call is a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;
/// For that little, even a bad radio link needs no longer.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Pages open at once: a household's, with room to spare.
const MAX_SOCKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_ask() {
        for (header, want) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("br", false),
            ("gzip;q=0", false),
            ("x-gzip-like", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(header), want, "{header:?}");
        }
    }
}
