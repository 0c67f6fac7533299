//! JSON-RPC 2.0: what is a request, what is an error, what goes back.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Comes back with the answer; a call without one is a notification and gets none.
    pub(crate) id: Option<Value>,
    /// The method's name.
    pub(crate) method: String,
    /// Its parameters; `{}` if there were none.
    pub(crate) params: Value,
}

/// A request's body: one call, or some at once.
pub(crate) enum Request {
    One(Result<Call, Failure>),
    Batch(Vec<Result<Call, Failure>>),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
    /// Seconds after which trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none", rename = "data")]
    pub(crate) retry_after: Option<RetryAfter>,
    /// The call's id, as far as it could be read.
    #[serde(skip)]
    id: Option<Value>,
}

/// Detail of a failure that passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetryAfter {
    pub(crate) retry_after_s: u64,
}

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
            id: None,
        }
    }

    /// The same, with when to try again.
    pub(crate) fn after(self, retry_after_s: u64) -> Self {
        Self {
            retry_after: Some(RetryAfter { retry_after_s }),
            ..self
        }
    }
}

/// Reads a request's body. What can't be read as JSON at all is one failed call.
pub(crate) fn parse(body: &[u8]) -> Request {
    match serde_json::from_slice(body) {
        Ok(Value::Array(calls)) if calls.is_empty() || calls.len() > MAX_BATCH => {
            let message = format!("A batch has 1 to {MAX_BATCH} calls.");
            Request::One(Err(Failure::new(INVALID_REQUEST, message)))
        }
        Ok(Value::Array(calls)) => Request::Batch(calls.into_iter().map(call).collect()),
        Ok(value) => Request::One(call(value)),
        Err(error) => Request::One(Err(Failure::new(PARSE_ERROR, format!("No JSON: {error}.")))),
    }
}

/// What goes back for one call; nothing for a notification.
pub(crate) fn answer(id: Option<Value>, result: Result<Value, Failure>) -> Option<Value> {
    match result {
        Ok(result) => Some(json!({ "jsonrpc": "2.0", "id": id?, "result": result })),
        // Calls that could not be read are answered with what was read of them.
        Err(error) if id.is_none() && !UNREADABLE.contains(&error.code) => None,
        Err(error) => {
            let id = id.or_else(|| error.id.clone());
            Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
        }
    }
}

fn call(value: Value) -> Result<Call, Failure> {
    #[derive(Deserialize)]
    struct Form {
        jsonrpc: String,
        method: String,
        #[serde(default)]
        params: Option<Value>,
    }

    let id = value.get("id").cloned();
    let invalid = |why: String| Failure {
        id: id.clone(),
        ..Failure::new(INVALID_REQUEST, why)
    };
    if !matches!(
        id,
        None | Some(Value::Null | Value::String(_) | Value::Number(_))
    ) {
        let why = "A call's id is a string, a number or null.";
        return Err(Failure::new(INVALID_REQUEST, why));
    }
    let form: Form = serde_json::from_value(value)
        .map_err(|error| invalid(format!("No JSON-RPC call: {error}.")))?;
    if form.jsonrpc != "2.0" {
        return Err(invalid("This API speaks JSON-RPC 2.0.".to_owned()));
    }
    Ok(Call {
        id,
        method: form.method,
        params: form.params.unwrap_or_else(|| json!({})),
    })
}

/// The body is no JSON.
pub(crate) const PARSE_ERROR: i32 = -32700;
/// The body is no JSON-RPC call.
pub(crate) const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
/// The method does not take these parameters.
pub(crate) const INVALID_PARAMS: i32 = -32602;
/// The method was understood and refused or not possible; the message says why.
pub(crate) const REFUSED: i32 = -32000;
/// The method needs the setup code.
pub(crate) const UNAUTHORISED: i32 = -32001;
/// Too many wrong codes.
pub(crate) const THROTTLED: i32 = -32002;
/// The method was begun and did not answer in time.
pub(crate) const TIMED_OUT: i32 = -32003;

const UNREADABLE: [i32; 2] = [PARSE_ERROR, INVALID_REQUEST];
/// More than a page ever asks for at once.
const MAX_BATCH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of the failure that `body` is, or 0.
    fn code(body: &str) -> i32 {
        match parse(body.as_bytes()) {
            Request::One(Err(failure)) => failure.code,
            Request::One(Ok(_)) | Request::Batch(_) => 0,
        }
    }

    #[test]
    fn bodies_are_judged_as_the_specification_says() {
        for (body, want) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"box.status"}"#, 0),
            (r#"{"jsonrpc":"2.0","method":"box.status","params":{}}"#, 0),
            ("{", PARSE_ERROR),
            ("1", INVALID_REQUEST),
            ("[]", INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, INVALID_REQUEST),
        ] {
            assert_eq!(code(body), want, "{body}");
        }
        assert_eq!(
            code(&format!("[{}]", vec!["1"; MAX_BATCH + 1].join(","))),
            INVALID_REQUEST
        );
    }

    #[test]
    fn answers_carry_the_id_and_notifications_get_none() {
        let ok = answer(Some(json!("a")), Ok(json!(true))).unwrap();
        assert_eq!(ok, json!({ "jsonrpc": "2.0", "id": "a", "result": true }));
        assert_eq!(answer(None, Ok(json!(true))), None);
        assert_eq!(answer(None, Err(Failure::new(REFUSED, "No."))), None);
        let Request::One(Err(failure)) = parse(br#"{"id":7}"#) else {
            panic!("read as a call")
        };
        assert_eq!(answer(None, Err(failure)).unwrap()["id"], 7);
    }
}
