//! The kinds of text in a manifest, each a type that only holds what is valid.

use std::{fmt, str::FromStr};

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// A text that is not of the kind that stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {rule}")]
pub struct TextError {
    text: String,
    kind: &'static str,
    rule: String,
}

/// Makes a type of the texts that `$check` takes. It says what rule is broken.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// It as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(rule) => Err(TextError { text, kind: $kind, rule: rule.into() }),
                }
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// A name of lower-case letters and digits, with single hyphens inside: safe in paths and
    /// hosts.
    Id, "name", check_id
}

text_type! {
    /// A volume's name: an [`Id`], or `BACKUP`.
    VolumeId, "volume name", check_volume
}

text_type! {
    /// A processor architecture as `uname -m` has it: `x86_64`, `aarch64`, `riscv64`. Safe in
    /// paths.
    Arch, "architecture", check_arch
}

text_type! {
    /// An absolute URL, as it was written.
    Url, "URL", check_url
}

text_type! {
    /// A regular expression that is looked for anywhere in a text. Classes are those of ASCII.
    Pattern, "regular expression", check_pattern
}

impl Url {
    pub(super) fn of_example() -> Self {
        Self("https://example.com/".to_owned())
    }
}

impl Pattern {
    /// Whether it is found in `text`.
    pub fn matches(&self, text: &str) -> bool {
        // It was compiled when it was made; compiled, thousands of them would fill the memory.
        compile(&self.0).is_ok_and(|regex| regex.is_match(text))
    }
}

fn check_id(text: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let word = |word: &str| !word.is_empty() && word.bytes().all(allowed);
    match text.split('-').all(word) {
        true => Ok(()),
        false => Err("use lower-case letters and digits, joined by single hyphens"),
    }
}

fn check_volume(text: &str) -> Result<(), &'static str> {
    match text {
        "BACKUP" => Ok(()),
        _ => check_id(text),
    }
}

fn check_arch(text: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(()),
        false => Err("use what `uname -m` says, such as x86_64 or aarch64"),
    }
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err("it must begin with a scheme, such as https:");
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if !is_scheme || !scheme.bytes().all(allowed) {
        return Err("it must begin with a scheme, such as https:");
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character in it");
    }
    let hosted = ["http", "https", "ftp", "ws", "wss"];
    if !hosted.contains(&scheme.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.is_empty() || host.starts_with(':') || host.contains([' ', '<', '>', '^', '|', '%'])
    {
        true => Err("a host must follow its scheme, as in https://example.com/"),
        false => Ok(()),
    }
}

fn check_pattern(text: &str) -> Result<(), String> {
    if text.len() > PATTERN_SIZE {
        return Err(format!("it has more than {PATTERN_SIZE} bytes"));
    }
    compile(text).map(drop).map_err(|error| error.to_string())
}

fn compile(text: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(text).size_limit(COMPILED).build()
}

/// Bytes of a pattern, at most: names of devices are shorter, and each byte takes a hundred in
/// memory before it is compiled.
const PATTERN_SIZE: usize = 4 << 10;
/// Bytes of a compiled pattern, at most: a thousand times what names of devices need.
const COMPILED: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = TextError>>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_safe_in_paths_and_hosts() {
        let bad = [
            "", "Bad", "a_b", "-a", "a-", "a--b", "a/b", "..", "a.b", "ä", "BACKUPS",
        ];
        check::<Id>(&["a", "hello-world", "4th", "a-1-b"], &bad);
        assert!("BACKUP".parse::<Id>().is_err());
        check::<VolumeId>(&["main", "BACKUP"], &bad);
        let bad = ["", "x86 64", "../x", "a/b", &"a".repeat(33), "é"];
        check::<Arch>(&["x86_64", "aarch64", "armv7l", "x86-64"], &bad);
    }

    #[test]
    fn urls_have_a_scheme_and_where_it_needs_one_a_host() {
        check::<Url>(
            &[
                "https://example.com",
                "http://me@[::1]:80/a b?c#d",
                "mailto:me@example.com",
                "bitcoin:bc1q",
                "git+ssh://git@example.com/x",
            ],
            &[
                "",
                "example.com",
                "/path",
                ":x",
                "1a:b",
                "https:",
                "https://",
                "https:///x",
                "http://:80/",
                "https://exa mple.com/",
                "https://example.com/\n",
                "ht tp://x/",
            ],
        );
    }

    #[test]
    fn patterns_are_found_anywhere_and_bounded() {
        let pattern: Pattern = "(?i)nvidia|RTX [0-9]+".parse().unwrap();
        assert!(pattern.matches("GeForce by NVIDIA") && pattern.matches("an RTX 40"));
        assert!(!pattern.matches("Radeon"));
        let deep = "(".repeat(10_000);
        check::<Pattern>(&["", "^a$"], &["(", "[z-a]", "(a{1000}){1000}", &deep, "*"]);
        let said = "(".parse::<Pattern>().unwrap_err().to_string();
        assert!(said.contains("not a valid regular expression"), "{said}");
    }
}
