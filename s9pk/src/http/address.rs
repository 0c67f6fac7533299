//! Where a file is: `http` and `https` URLs, and nothing else.

use std::fmt;

use fluent_uri::{Uri, UriRef};

use crate::http::limits;

/// A URL that a file can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri<String>,
    secure: bool,
    port: u16,
}

/// Why something is no URL to fetch from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address to fetch from: {problem}")]
pub struct UrlError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Url {
    /// Parses a URL.
    ///
    /// # Errors
    /// When it is none, or not of `http` or `https`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check_size(text)?;
        let uri = Uri::parse(text.to_owned())
            .map_err(|_| refuse(text, "it is not a URL (https://host/path)"))?;
        Self::check(uri).map_err(|problem| refuse(text, problem))
    }

    /// The URL that a redirection from here to `location` leads to.
    ///
    /// # Errors
    /// When it is none, or leads from TLS to plain HTTP, where anyone could answer.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        check_size(location)?;
        let reference = UriRef::parse(location).map_err(|_| refuse(location, "it is not a URL"))?;
        let uri = reference
            .resolve_against(&self.uri.strip_fragment())
            .map_err(|_| refuse(location, "it is not a URL"))?;
        let joined = Self::check(uri).map_err(|problem| refuse(location, problem))?;
        if self.secure && !joined.secure {
            let problem = "the server redirects from https to http, where anyone could answer";
            return Err(refuse(location, problem));
        }
        Ok(joined)
    }

    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host's name or address to connect to, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let host = self.authority_host();
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        inner.unwrap_or(host)
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        let host = self.authority_host();
        if self.port == default_port(self.secure) {
            host.to_owned()
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Path and query, as they go into the request line.
    pub(crate) fn target(&self) -> String {
        let path = match self.uri.path().as_str() {
            "" => "/",
            path => path,
        };
        match self.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    fn authority_host(&self) -> &str {
        self.uri
            .authority()
            .map_or("", |authority| authority.host())
    }

    fn check(uri: Uri<String>) -> Result<Self, &'static str> {
        let secure = match uri.scheme().as_str() {
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err("only http and https are known"),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.host().is_empty() {
            return Err("it has no host");
        }
        if authority.host().contains('%') {
            return Err("its host is not a plain name (write it in ASCII)");
        }
        if authority.has_userinfo() {
            return Err("it has a user's name in it, which would be sent unencrypted or logged");
        }
        let port = authority.port_to_u16().map_err(|_| "its port is none")?;
        let port = port.unwrap_or(default_port(secure));
        Ok(Self { uri, secure, port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.uri.as_str())
    }
}

/// Whether a command's argument is meant as a URL, not as a path.
pub fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(scheme))
    })
}

fn check_size(text: &str) -> Result<(), UrlError> {
    if text.len() > limits::URL_SIZE {
        return Err(refuse("", "it is longer than 8 KiB"));
    }
    Ok(())
}

fn refuse(text: &str, problem: &'static str) -> UrlError {
    let text = text.to_owned();
    UrlError { text, problem }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("HTTPS://Example.org/a%20b?c=d#e").unwrap();
        assert!(url.is_secure());
        assert_eq!((url.host(), url.port()), ("Example.org", 443));
        assert_eq!(url.host_header(), "Example.org");
        assert_eq!(url.target(), "/a%20b?c=d");
        let six = Url::parse("http://[::1]:8080").unwrap();
        assert_eq!((six.host(), six.port()), ("::1", 8080));
        assert_eq!(
            (six.host_header().as_str(), six.target().as_str()),
            ("[::1]:8080", "/")
        );
    }

    #[test]
    fn what_cannot_be_fetched_is_refused() {
        for text in [
            "",
            "file.s9pk",
            "ftp://host/x",
            "http:///x",
            "http://user:word@host/x",
            "http://host:99999/x",
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://h\u{f6}st/",
            "http://h%C3%B6st/",
            &format!("http://host/{}", "x".repeat(limits::URL_SIZE)),
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirections_are_resolved_and_never_leave_tls() {
        let url = Url::parse("https://host:8443/a/b?c").unwrap();
        let to = |location| url.join(location).map(|url| url.to_string());
        assert_eq!(to("d").unwrap(), "https://host:8443/a/d");
        assert_eq!(to("/d?e").unwrap(), "https://host:8443/d?e");
        assert_eq!(to("//other/d").unwrap(), "https://other/d");
        assert_eq!(to("https://other/").unwrap(), "https://other/");
        assert!(to("http://host/a").is_err());
        assert!(to("file:///etc/passwd").is_err());
        let plain = Url::parse("http://host/a#b").unwrap();
        assert!(plain.join("https://host/a").unwrap().is_secure());
    }
}
