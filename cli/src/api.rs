//! The box's API as a client: JSON-RPC 2.0 in an HTTP/1.1 POST on the local socket, one call a
//! connection. Every wait has a deadline.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

/// Where the manager listens for whoever is root on the box.
pub(crate) const SOCKET: &str = "/run/pilot/api.sock";

/// Calls `method`; gives its result.
pub(crate) fn call(socket: &Path, method: &str, params: &Value) -> Result<Value, ApiError> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    post(socket, "/api", "application/json", body.as_bytes())
}

/// Sends a file to the path that takes it.
pub(crate) fn upload(socket: &Path, path: &str, file: &[u8]) -> Result<Value, ApiError> {
    post(socket, path, "application/octet-stream", file)
}

fn post(socket: &Path, path: &str, kind: &str, body: &[u8]) -> Result<Value, ApiError> {
    let mut stream = connect(socket).map_err(ApiError::Connect)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Whoever refuses need not have read all of it: what was answered counts.
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER)
        .read_to_end(&mut answer)
        .and(sent)
        .or_else(|e| if answer.is_empty() { Err(e) } else { Ok(()) })
        .map_err(ApiError::Io)?;
    result(&answer)
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody is there.
    #[error(
        "the box's API can't be reached at {SOCKET}: {0}; is this a Pilotlight box, and are you root?"
    )]
    Connect(io::Error),
    /// It did not answer, or not in time.
    #[error("the box's API did not answer: {0}; PID 1 replaces a manager that hangs, try again")]
    Io(io::Error),
    /// It answered something else.
    #[error("the box's API answered what makes no sense: {0}")]
    Malformed(String),
    /// It understood and said no.
    #[error("{0}")]
    Refused(String),
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    // Non-blocking: with a full queue at a stopped manager, connect(2) would wait for ever.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &address)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

fn result(answer: &[u8]) -> Result<Value, ApiError> {
    let malformed = |what: &str| ApiError::Malformed(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let body = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) => &answer[length..],
        Ok(httparse::Status::Partial) => return Err(malformed("it ends too early")),
        Err(error) => return Err(ApiError::Malformed(error.to_string())),
    };
    let status = head.code.unwrap_or(0);
    let chunked = |h: &httparse::Header<'_>| h.name.eq_ignore_ascii_case("transfer-encoding");
    if head.headers.iter().any(chunked) {
        return Err(malformed(
            "its body is in chunks, which an answer of known length never is",
        ));
    }
    let Ok(mut reply) = serde_json::from_slice::<Value>(body) else {
        let said: String = String::from_utf8_lossy(body)
            .chars()
            .take(MAX_SAID)
            .collect();
        return Err(ApiError::Malformed(format!("status {status}: {said}")));
    };
    if let Some(message) = reply["error"]["message"].as_str() {
        return Err(ApiError::Refused(message.to_owned()));
    }
    match reply.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(malformed("it has neither result nor error")),
    }
}

/// The API itself gives up earlier: after five seconds, or thirty for what PID 1 writes down first.
const DEADLINE: Duration = Duration::from_secs(40);
/// In bytes; a thousand log lines are a tenth of it.
const MAX_ANSWER: u64 = 16 << 20;
/// Of an answer that was not understood, in characters.
const MAX_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn served(name: &str, answer: &'static str) -> (Result<Value, ApiError>, String) {
        let path = std::env::temp_dir().join(format!("pilot-api-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let n = client.read(&mut request).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let result = call(&path, "service.start", &json!({ "id": "demo" }));
        std::fs::remove_file(path).unwrap();
        (result, server.join().unwrap())
    }

    #[test]
    fn a_call_is_one_request_and_its_result_comes_back() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}";
        let (result, request) = served("good", answer);
        assert_eq!(result.unwrap(), json!(true));
        assert!(request.starts_with("POST /api HTTP/1.1\r\n"), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["method"], &body["params"]["id"]),
            (&json!("service.start"), &json!("demo"))
        );
    }

    #[test]
    fn a_refusal_is_the_box_s_own_sentence() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n{\"id\":1,\"error\":{\"code\":-32000,\"message\":\"there is no service\"}}";
        let (result, _) = served("refused", answer);
        assert_eq!(result.unwrap_err().to_string(), "there is no service");
    }

    #[test]
    fn rubbish_is_said_to_be() {
        for (name, answer) in [
            ("empty", ""),
            ("ssh", "SSH-2.0\r\n"),
            ("text", "HTTP/1.1 500 Oh\r\n\r\nno"),
        ] {
            let (result, _) = served(name, answer);
            assert!(matches!(result, Err(ApiError::Malformed(_))), "{result:?}");
        }
    }

    #[test]
    fn a_box_that_is_not_there_is_said_not_to_be() {
        let result = call(Path::new("/nonexistent/api.sock"), "box.status", &json!({}));
        assert!(matches!(result, Err(ApiError::Connect(_))), "{result:?}");
    }
}
