//! `POST /api`: who calls, whether they may, and what comes of it.

use std::{sync::PoisonError, time::Instant};

use hyper::{
    StatusCode,
    body::Bytes,
    header::{self, HeaderMap, HeaderValue},
};
use serde_json::Value;

use crate::{
    auth::{Denied, Sender},
    http::{Access, Reply, Site, json, text},
    methods,
    rpc::{self, Call, Failure, Request, RetryAfter},
};

/// Answers a request's body.
pub(crate) async fn answer(
    site: &Site,
    access: Access,
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    match rpc::parse(body) {
        Request::One(call) => {
            let (id, result) = run(site, access, headers, call).await;
            let status = result.as_ref().err().map_or(StatusCode::OK, status_of);
            let retry = result
                .as_ref()
                .err()
                .and_then(|failure| failure.retry_after);
            let Some(answer) = rpc::answer(id, result) else {
                return text(StatusCode::NO_CONTENT, "");
            };
            refined(json(status, &answer), retry)
        }
        Request::Batch(calls) => {
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                let (id, result) = run(site, access, headers, call).await;
                answers.extend(rpc::answer(id, result));
            }
            if answers.is_empty() {
                return text(StatusCode::NO_CONTENT, "");
            }
            json(StatusCode::OK, &Value::Array(answers))
        }
    }
}

async fn run(
    site: &Site,
    access: Access,
    headers: &HeaderMap,
    call: Result<Call, Failure>,
) -> (Option<Value>, Result<Value, Failure>) {
    let Call { id, method, params } = match call {
        Ok(call) => call,
        Err(failure) => return (None, Err(failure)),
    };
    let method = match methods::find(&method) {
        Ok(method) => method,
        Err(failure) => return (id, Err(failure)),
    };
    if method.changes
        && let Err(denied) = allowed(site, access, headers)
    {
        return (id, Err(denied.into()));
    }
    (id, method.run(params, &site.host, &site.feed).await)
}

/// Whether the caller may change something.
pub(crate) fn allowed(site: &Site, access: Access, headers: &HeaderMap) -> Result<(), Denied> {
    if access == Access::Local {
        return Ok(());
    }
    let value = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let offered = value(header::AUTHORIZATION).and_then(|value| {
        let (scheme, code) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(code)
    });
    // Each proxy adds a header line or an item of a list; the door's is the very last.
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back();
    let sender = Sender::from_forwarded(forwarded.and_then(|value| value.to_str().ok()));
    let code = site.host.setup_code();
    // Counters only: a panic between two of them leaves nothing that could do harm.
    let mut throttle = site.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    throttle.check(sender, offered, code.as_deref(), Instant::now())
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::Throttled(wait) => Self::new(rpc::THROTTLED, message).after(wait.as_secs() + 1),
            Denied::Missing | Denied::NoCode | Denied::Wrong => {
                Self::new(rpc::UNAUTHORISED, message)
            }
        }
    }
}

/// The status that goes with a failure.
pub(crate) fn status_of(failure: &Failure) -> StatusCode {
    match failure.code {
        rpc::UNAUTHORISED => StatusCode::UNAUTHORIZED,
        rpc::THROTTLED => StatusCode::TOO_MANY_REQUESTS,
        rpc::PARSE_ERROR | rpc::INVALID_REQUEST => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// With what HTTP wants to be said beside the status.
pub(crate) fn refined(mut reply: Reply, retry: Option<RetryAfter>) -> Reply {
    if reply.status() == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    if let Some(RetryAfter { retry_after_s }) = retry {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after_s.into());
    }
    reply
}

const FORWARDED_FOR: &str = "x-forwarded-for";
