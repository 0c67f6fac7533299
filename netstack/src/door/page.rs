//! Answers that the door makes itself: plain pages that need nothing but this process.

use super::{head, head::Refusal, http2::hpack};

/// A whole answer, made here.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// Its Content-Type.
    kind: &'static str,
    /// Further fields.
    fields: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    /// An HTML page.
    pub(super) fn html(status: u16, body: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    /// A JSON text.
    pub(super) fn json(body: String) -> Self {
        Self::new(200, "application/json", body)
    }

    /// A file to save.
    pub(super) fn file(kind: &'static str, name: &str, body: String) -> Self {
        let disposition = format!("attachment; filename=\"{name}\"");
        Self::new(200, kind, body).with("Content-Disposition", disposition)
    }

    /// A redirect that keeps method and body.
    pub(super) fn redirect(to: String) -> Self {
        Self::html(308, String::new()).with("Location", to)
    }

    /// A small page that says what is wrong: a title, and a sentence or two of HTML.
    pub(super) fn trouble(status: u16, title: &str, html: &str) -> Self {
        let body = format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style><main><h1>{title}</h1><p>{html}</p></main></html>"
        );
        Self::html(status, body)
    }

    /// The page for a request that is not taken.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::trouble(
            refusal.status,
            "This request can’t be answered",
            &escape(refusal.why),
        )
    }

    /// The same with one more field.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Writes it. `keep` is whether the connection is kept; a HEAD gets no body.
    pub(super) fn write(&self, is_head: bool, keep: bool, out: &mut Vec<u8>) {
        let start = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        out.extend_from_slice(start.as_bytes());
        head::line("Content-Type", self.kind.as_bytes(), out);
        let length = self.body.len().to_string();
        head::line("Content-Length", length.as_bytes(), out);
        head::line("Cache-Control", b"no-store", out);
        head::line("Content-Security-Policy", POLICY, out);
        head::line("X-Content-Type-Options", b"nosniff", out);
        for (name, value) in &self.fields {
            head::line(name, value.as_bytes(), out);
        }
        if !keep {
            head::line("Connection", b"close", out);
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(self.body.as_bytes());
        }
    }

    /// The head as a field section for an HTTP/2 client; the body is [`Self::body`].
    pub(super) fn section(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        hpack::encode_status(self.status, &mut out);
        let length = self.body.len().to_string();
        for (name, value) in [
            ("content-type", self.kind.as_bytes()),
            ("content-length", length.as_bytes()),
            ("cache-control", b"no-store"),
            ("content-security-policy", POLICY),
            ("x-content-type-options", b"nosniff"),
        ] {
            hpack::encode(name.as_bytes(), value, &mut out);
        }
        for (name, value) in &self.fields {
            let name = name.to_ascii_lowercase();
            hpack::encode(name.as_bytes(), value.as_bytes(), &mut out);
        }
        out
    }

    /// What is shown.
    pub(super) fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// How long the body is.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self {
            status,
            kind,
            fields: Vec::new(),
            body,
        }
    }
}

/// `text` so that it stands in HTML as what it is; control characters become spaces.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Colours and type of the door's pages, light and dark: the dashboard's own, as far as they go
/// without its font.
pub const STYLE: &str = ":root{color-scheme:light dark;--b:#F4F1E8;--i:#1B2325;\
--j:#465054;--l:#D3CDBD;--a:#17605A;--c:#F6E3B4;--ok:#2A6548;--bad:#9C2F1F;--care:#7A4E00}\
@media(prefers-color-scheme:dark){:root{--b:#13181A;--i:#EAE6DB;--j:#B9BFBD;--l:#2B3336;\
--a:#7FCBBB;--c:#362A10;--ok:#8CCBA2;--bad:#F59C8F;--care:#EDBE55}}\
body{margin:0;background:var(--b);color:var(--i);font:16px/1.5 system-ui,sans-serif}\
main{max-width:66ch;margin:0 auto;padding:24px 16px}h1{font-size:26px;line-height:1.2}\
a{color:var(--a)}";

/// Nothing is loaded and nothing runs; the style is in the page.
const POLICY: &[u8] = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                      form-action 'self'; base-uri 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_text() {
        assert_eq!(
            escape("<b a='\"'>&\n"),
            "&lt;b a=&#39;&quot;&#39;&gt;&amp; "
        );
    }

    #[test]
    fn a_head_gets_the_length_and_no_body() {
        let (mut get, mut head) = (Vec::new(), Vec::new());
        let page = Answer::json("{}".into());
        page.write(false, true, &mut get);
        page.write(true, true, &mut head);
        assert_eq!(get, [head.as_slice(), b"{}"].concat());
        assert!(head.windows(17).any(|w| w == b"Content-Length: 2"));
    }
}
