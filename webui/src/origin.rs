//! Requests that another site made a browser send are refused.
//!
//! Browsers say where a request comes from in `Origin` and `Sec-Fetch-Site`, and no page can forge
//! those. Programs that are no browsers send neither and are let through: they hold no cookie that
//! another site could borrow.

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};

/// Whether a request came from our own page, or from no page at all.
pub(crate) fn is_ours(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE).map(|value| value.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(HOST).map(|h| h.to_str()))
    else {
        return false;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_and_programs_pass() {
        for (host, origin, site, ours) in [
            (Some("box.local"), None, None, true),
            (Some("box.local"), Some("https://box.local"), None, true),
            (
                Some("Box.local:8443"),
                Some("https://box.local:8443"),
                Some("same-origin"),
                true,
            ),
            (Some("box.local"), None, Some("none"), true),
            (
                Some("box.local"),
                Some("https://box.local:444"),
                None,
                false,
            ),
            (Some("box.local"), Some("https://evil.example"), None, false),
            (Some("box.local"), Some("null"), None, false),
            (
                Some("box.local"),
                Some("https://box.local"),
                Some("cross-site"),
                false,
            ),
            (Some("box.local"), None, Some("same-site"), false),
            (None, Some("https://box.local"), None, false),
        ] {
            let mut headers = HeaderMap::new();
            let named = [(HOST, host), (ORIGIN, origin), (SEC_FETCH_SITE, site)];
            for (name, value) in named.into_iter().filter_map(|(n, v)| v.map(|v| (n, v))) {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(is_ours(&headers), ours, "{headers:?}");
        }
    }
}
