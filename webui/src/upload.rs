//! What is too long for a call: files, each to a path of its own, as the body of a POST. Who may send
//! one is decided as for calls that change something.

use std::{os::fd::OwnedFd, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    Request, StatusCode,
    body::{Body as _, Incoming},
};
use rustix::fs::MemfdFlags;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api,
    http::{self, Access, FOREIGN, Reply, Site},
    origin,
    rpc::{self, Failure},
};

/// Where PID 1's next binary goes.
pub(crate) const INIT: &str = "/upload/init";

/// Takes a binary for PID 1, and hands it on unlooked at: others verify it.
pub(crate) async fn init(site: &Site, access: Access, request: Request<Incoming>) -> Reply {
    if access == Access::Dashboard && !origin::is_ours(request.headers()) {
        return http::text(StatusCode::FORBIDDEN, FOREIGN);
    }
    let (head, body) = request.into_parts();
    if let Err(denied) = api::allowed(site, access, &head.headers) {
        return refusal(&denied.into());
    }
    let taken = timeout(DEADLINE, take(body)).await;
    let handed_on = match taken {
        Ok(Ok(program)) => site.host.upgrade(program),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("The file took too long to arrive.".to_owned()),
    };
    match handed_on {
        Ok(()) => http::json(StatusCode::ACCEPTED, &json!({ "result": true })),
        Err(why) => refusal(&Failure::new(rpc::REFUSED, why)),
    }
}

fn refusal(failure: &Failure) -> Reply {
    let status = match api::status_of(failure) {
        StatusCode::OK => StatusCode::CONFLICT,
        status => status,
    };
    api::refined(
        http::json(status, &json!({ "error": failure })),
        failure.retry_after,
    )
}

async fn take(mut body: Incoming) -> Result<OwnedFd, String> {
    if body.size_hint().lower() > MAX_PROGRAM {
        return Err(TOO_LONG.to_owned());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let program = rustix::fs::memfd_create("upload", flags)
        .map_err(|e| format!("There is no memory for the file: {e}."))?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("The file did not arrive whole: {e}."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let mut rest = &data[..];
        while !rest.is_empty() {
            let written = rustix::io::pwrite(&program, rest, length)
                .map_err(|e| format!("There is no memory for the file: {e}."))?;
            length += written as u64;
            rest = &rest[written..];
        }
        if length > MAX_PROGRAM {
            return Err(TOO_LONG.to_owned());
        }
    }
    Ok(program)
}

/// Several times what a binary has.
const MAX_PROGRAM: u64 = 64 << 20;
const TOO_LONG: &str = "A binary for PID 1 has at most 64 MiB.";
/// Some megabytes over a bad radio link.
const DEADLINE: Duration = Duration::from_secs(300);
