//! Ranges: what a server says a body is, held against what was asked for.

use std::{ops::Range, time::Duration};

use crate::http::{
    limits,
    response::{Framing, Head, Violation},
};

/// What `Content-Range` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The body is bytes `first` to `last`, both included, of a file of `length` bytes.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
        /// The file's length, if said.
        length: Option<u64>,
    },
    /// There is no such range in the file of `length` bytes.
    Unsatisfied {
        /// The file's length.
        length: u64,
    },
}

impl ContentRange {
    /// Parses the header's value (RFC 9110, section 14.4).
    pub(crate) fn parse(value: &str) -> Result<Self, Violation> {
        Self::parts(value).ok_or(Violation::ContentRange)
    }

    fn parts(value: &str) -> Option<Self> {
        let (unit, rest) = value.split_once(' ')?;
        let (range, length) = rest.trim_start().split_once('/')?;
        let length = match length {
            "*" => None,
            digits => Some(number(digits)?),
        };
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        if range == "*" {
            return length.map(|length| Self::Unsatisfied { length });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        // Lengths are computed as `last + 1`, which must not overflow.
        let sound = first <= last && last < length.unwrap_or(u64::MAX);
        sound.then_some(Self::Part {
            first,
            last,
            length,
        })
    }
}

/// A number of nothing but digits.
pub(crate) fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Which state of a file a response was of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The entity tag, with its quotes and `W/`.
    etag: Option<String>,
    /// When it was last changed, as the server wrote it.
    modified: Option<String>,
    /// Whether `modified` can't be of two states within one second.
    settled: bool,
}

impl Version {
    /// What to send as `If-Range`: only a strong validator may be sent there.
    pub fn if_range(&self) -> Option<&str> {
        let etag = self.etag.as_deref().filter(|etag| !is_weak(etag));
        etag.or_else(|| self.modified.as_deref().filter(|_| self.settled))
    }

    /// Whether `now` is certainly another state of the file.
    pub fn differs(&self, now: &Self) -> bool {
        match (&self.etag, &now.etag) {
            (Some(then), Some(now)) => then != now,
            _ => match (&self.modified, &now.modified) {
                (Some(then), Some(now)) => then != now,
                _ => false,
            },
        }
    }

    pub(crate) fn from_headers(
        etag: Option<&str>,
        modified: Option<&str>,
        date: Option<&str>,
    ) -> Self {
        let kept = |value: &&str| value.len() <= limits::VALIDATOR_SIZE && is_plain(value);
        let etag = etag.filter(kept).filter(|etag| is_etag(etag));
        let modified = modified.filter(kept);
        Self {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
            settled: modified
                .zip(date)
                .is_some_and(|(then, now)| is_settled(then, now)),
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn is_weak(etag: &str) -> bool {
    etag.starts_with("W/")
}

fn is_etag(etag: &str) -> bool {
    let opaque = etag.strip_prefix("W/").unwrap_or(etag);
    let opaque = opaque.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    opaque.is_some_and(|it| !it.contains('"'))
}

/// RFC 9110, section 8.8.2.2: a date is strong if the response is at least a second younger.
fn is_settled(modified: &str, date: &str) -> bool {
    let parse = httpdate::parse_http_date;
    let (Ok(modified), Ok(date)) = (parse(modified), parse(date)) else {
        return false;
    };
    date.duration_since(modified)
        .is_ok_and(|age| age >= Duration::from_secs(1))
}

/// What was asked for, and what is known of the file already.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The bytes; not empty.
    pub range: Range<u64>,
    /// The file's length, if known.
    pub length: Option<u64>,
    /// The state of the file that was seen before at this server.
    pub version: Option<Version>,
}

/// What a response is, held against what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes from the first that was asked for up to `end`, which may come earlier than asked.
    Part {
        /// Offset after the last byte.
        end: u64,
        /// The file's length.
        length: u64,
    },
    /// The whole file from its first byte, as the server knows no ranges or the file is shorter.
    Whole {
        /// The file's length; none if it ends where the body ends.
        length: Option<u64>,
    },
    /// The file is elsewhere.
    Elsewhere {
        /// A reference to resolve against the URL.
        location: String,
    },
    /// The server has another state of the file than before.
    Changed,
    /// The server has nothing for us.
    Refused {
        /// The status code.
        status: u16,
        /// Whether it may be different soon.
        temporary: bool,
        /// When the server says to ask again.
        retry_after: Option<Duration>,
    },
}

/// Says what a response is.
///
/// # Errors
/// When it is none to what was asked: bytes of another place, or a length that is not its own.
pub fn judge(head: &Head, asked: &Asked) -> Result<Answer, Violation> {
    match head.status {
        200 => Ok(whole(head, asked)),
        206 => part(head, asked),
        301 | 302 | 303 | 307 | 308 => match &head.location {
            Some(location) => Ok(Answer::Elsewhere {
                location: location.clone(),
            }),
            None => Err(Violation::Location),
        },
        416 if asked.length.is_some() => Ok(Answer::Changed),
        status => Ok(Answer::Refused {
            status,
            temporary: matches!(status, 408 | 425 | 429 | 500..=599),
            retry_after: head.retry_after,
        }),
    }
}

fn whole(head: &Head, asked: &Asked) -> Answer {
    let length = match head.framing {
        Framing::Sized(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    if is_other(head, asked, length) {
        return Answer::Changed;
    }
    Answer::Whole { length }
}

fn part(head: &Head, asked: &Asked) -> Result<Answer, Violation> {
    let Some(ContentRange::Part {
        first,
        last,
        length,
    }) = head.content_range
    else {
        return Err(Violation::ContentRange);
    };
    if is_other(head, asked, length) {
        return Ok(Answer::Changed);
    }
    let end = last + 1;
    let Some(length) = length.or(asked.length) else {
        return Err(Violation::UnknownLength);
    };
    let wanted = &asked.range;
    if first != wanted.start || end > wanted.end || end > length {
        return Err(Violation::WrongRange {
            wanted: wanted.clone(),
            got: first..end,
        });
    }
    match head.framing {
        Framing::Sized(size) if size != end - first => Err(Violation::WrongRange {
            wanted: wanted.clone(),
            got: first..first.saturating_add(size),
        }),
        _ => Ok(Answer::Part { end, length }),
    }
}

fn is_other(head: &Head, asked: &Asked, length: Option<u64>) -> bool {
    let version = asked.version.as_ref();
    let resized = matches!((asked.length, length), (Some(then), Some(now)) if then != now);
    resized || version.is_some_and(|then| then.differs(&head.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_numbers_in_order_and_nothing_else() {
        let part = |first, last, length| {
            Ok(ContentRange::Part {
                first,
                last,
                length,
            })
        };
        assert_eq!(ContentRange::parse("bytes 0-9/10"), part(0, 9, Some(10)));
        assert_eq!(ContentRange::parse("Bytes 5-5/*"), part(5, 5, None));
        assert_eq!(
            ContentRange::parse("bytes */7"),
            Ok(ContentRange::Unsatisfied { length: 7 })
        );
        for wrong in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
            "bytes +1-9/10",
            "bytes -9/10",
            "bytes */*",
            "bytes 0-1,4-5/10",
            "pages 0-9/10",
        ] {
            assert!(ContentRange::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_strong_validators_are_sent_as_if_range() {
        let later = Some("Sun, 06 Nov 1994 08:49:38 GMT");
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let of = Version::from_headers;
        assert_eq!(of(Some("\"a\""), now, now).if_range(), Some("\"a\""));
        assert_eq!(of(Some("W/\"a\""), now, now).if_range(), None);
        assert_eq!(of(Some("W/\"a\""), now, later).if_range(), now);
        assert_eq!(of(Some("unquoted"), None, later).if_range(), None);
        assert_eq!(of(None, Some("yesterday"), later).if_range(), None);
    }

    #[test]
    fn another_tag_or_date_is_another_state() {
        let of = |etag, modified| Version::from_headers(etag, modified, None);
        assert!(of(Some("\"a\""), None).differs(&of(Some("\"b\""), None)));
        assert!(of(None, Some("x")).differs(&of(Some("\"b\""), Some("y"))));
        assert!(!of(Some("\"a\""), Some("x")).differs(&of(Some("\"a\""), Some("y"))));
        assert!(!of(Some("\"a\""), None).differs(&of(None, Some("y"))));
    }

    fn asked(range: Range<u64>, length: Option<u64>) -> Asked {
        Asked {
            range,
            length,
            version: None,
        }
    }

    fn head(text: &str) -> Head {
        Head::parse(text.as_bytes()).unwrap()
    }

    fn part_of(range: &str, size: u64) -> Head {
        head(&format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {size}\r\n\r\n"
        ))
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let asked = asked(100..200, None);
        let answer = judge(&part_of("bytes 100-199/1000", 100), &asked);
        assert_eq!(
            answer,
            Ok(Answer::Part {
                end: 200,
                length: 1000
            })
        );
        // Fewer bytes than asked are a part too; the rest is asked for later.
        assert!(judge(&part_of("bytes 100-149/1000", 50), &asked).is_ok());
        for (range, size) in [
            ("bytes 99-199/1000", 101),
            ("bytes 101-199/1000", 99),
            ("bytes 100-200/1000", 101),
            ("bytes 100-199/1000", 99),
            ("bytes 100-199/*", 100),
            ("bytes */1000", 0),
        ] {
            assert!(judge(&part_of(range, size), &asked).is_err(), "{range}");
        }
        let bare = head("HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\n\r\n");
        assert_eq!(judge(&bare, &asked), Err(Violation::ContentRange));
    }

    #[test]
    fn a_file_that_changed_is_noticed_by_length_tag_and_416() {
        let same = asked(0..10, Some(1000));
        assert_eq!(
            judge(&part_of("bytes 0-9/1001", 10), &same),
            Ok(Answer::Changed)
        );
        let gone = head("HTTP/1.1 416 x\r\nContent-Range: bytes */5\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(judge(&gone, &same), Ok(Answer::Changed));
        let tagged = Asked {
            version: Some(Version::from_headers(Some("\"a\""), None, None)),
            ..same
        };
        let other = head("HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: 1000\r\n\r\n");
        assert_eq!(judge(&other, &tagged), Ok(Answer::Changed));
    }

    #[test]
    fn a_server_without_ranges_gives_the_whole_file() {
        let sized = head("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        let length = Some(1000);
        assert_eq!(
            judge(&sized, &asked(5..9, length)),
            Ok(Answer::Whole { length })
        );
        let open = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let length = None;
        assert_eq!(
            judge(&open, &asked(5..9, Some(3))),
            Ok(Answer::Whole { length })
        );
    }

    #[test]
    fn refusals_are_lasting_or_temporary() {
        let answer = |status: &str| {
            let head = head(&format!(
                "HTTP/1.1 {status} x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
            ));
            judge(&head, &asked(0..1, None)).unwrap()
        };
        for (status, lasting) in [("404", true), ("403", true), ("503", false), ("429", false)] {
            let Answer::Refused {
                temporary,
                retry_after,
                ..
            } = answer(status)
            else {
                panic!("{status} is a refusal");
            };
            assert_eq!(temporary, !lasting, "{status}");
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        let nowhere = head("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            judge(&nowhere, &asked(0..1, None)),
            Err(Violation::Location)
        );
    }
}
