//! The one kind of request there is: GET of a range.

use std::ops::Range;

use crate::http::address::Url;

/// A request for the bytes in `range`, which is not empty. With `if_range`, the server sends the
/// whole if its file is another than the one this validator stands for.
pub(crate) fn get(url: &Url, range: &Range<u64>, if_range: Option<&str>) -> Vec<u8> {
    let if_range = if_range.map_or_else(String::new, |it| format!("If-Range: {it}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nRange: bytes={}-{}\r\n{if_range}\r\n",
        url.target(),
        url.host_header(),
        range.start,
        range.end.saturating_sub(1),
    )
    .into_bytes()
}

const AGENT: &str = concat!("pilotlight/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_asked_for_with_its_last_byte() {
        let url = Url::parse("http://host:81/a?b").unwrap();
        let request = String::from_utf8(get(&url, &(5..10), Some("\"x\""))).unwrap();
        assert!(request.starts_with("GET /a?b HTTP/1.1\r\nHost: host:81\r\n"));
        assert!(request.contains("\r\nRange: bytes=5-9\r\nIf-Range: \"x\"\r\n"));
        assert!(request.contains("\r\nAccept-Encoding: identity\r\n"));
        assert!(request.ends_with("\r\n\r\n"));
        let first = String::from_utf8(get(&url, &(0..1), None)).unwrap();
        assert!(first.contains("bytes=0-0") && !first.contains("If-Range"));
    }
}
