//! `modules.alias`: from what a device calls itself to the modules that drive it.
//!
//! A distribution's table has some 27,000 patterns, and a box asks a hundred times, on slow
//! machines too. The patterns are sorted by their literal beginnings; an alias is then compared
//! only with the patterns whose beginning it has. Nothing is copied but the file itself.

use std::ops::Range;

/// The table; see the module.
pub(crate) struct AliasTable {
    text: String,
    /// The lines, sorted by their patterns' literal beginnings.
    lines: Vec<Line>,
    longest_prefix: usize,
}

/// Where in the text a line and its pattern's literal beginning are.
struct Line {
    prefix: Range<usize>,
    end: usize,
}

impl AliasTable {
    /// Reads lines `alias PATTERN MODULE`; others are skipped.
    pub(crate) fn parse(file: &str) -> Self {
        let text = normalised(file);
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            if let Some(rest) = line.strip_prefix(KEYWORD) {
                let begin = start + KEYWORD.len();
                let prefix = begin..begin + literal_length(rest);
                lines.push(Line { prefix, end });
            }
            start = end;
        }
        lines.sort_unstable_by(|a, b| text[a.prefix.clone()].cmp(&text[b.prefix.clone()]));
        let longest_prefix = lines
            .iter()
            .map(|line| line.prefix.len())
            .max()
            .unwrap_or(0);
        Self {
            text,
            lines,
            longest_prefix,
        }
    }

    /// The modules whose pattern matches, in no particular order.
    pub(crate) fn matching(&self, alias: &str) -> Vec<String> {
        let alias = normalised(alias);
        let longest = alias.len().min(self.longest_prefix);
        (0..=longest)
            .filter_map(|length| alias.get(..length))
            .flat_map(|prefix| self.beginning_with(prefix))
            .filter_map(|line| pattern_and_module(&self.text[line.prefix.start..line.end]))
            .filter(|(pattern, _)| glob(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, module)| module.to_owned())
            .collect()
    }

    /// The lines with exactly this literal beginning.
    fn beginning_with(&self, prefix: &str) -> &[Line] {
        let of = |line: &Line| &self.text[line.prefix.clone()];
        let rest = &self.lines[self.lines.partition_point(|line| of(line) < prefix)..];
        &rest[..rest.partition_point(|line| of(line) == prefix)]
    }
}

/// The kernel takes `-` and `_` in names for the same; inside brackets `-` is a range.
pub(crate) fn normalised(text: &str) -> String {
    let mut in_brackets = false;
    let mut result = String::with_capacity(text.len());
    // Few lines have a dash: what is between dashes is copied in one go.
    for piece in text.split_inclusive('-') {
        let (body, dash) = piece
            .strip_suffix('-')
            .map_or((piece, false), |body| (body, true));
        result.push_str(body);
        if let Some(last) = body.rfind(['[', ']', '\n']) {
            in_brackets = body.as_bytes()[last] == b'[';
        }
        if dash {
            result.push(if in_brackets { '-' } else { '_' });
        }
    }
    result
}

fn pattern_and_module(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_ascii_whitespace();
    Some((words.next()?, words.next()?))
}

/// How much of a pattern is literal.
fn literal_length(pattern: &str) -> usize {
    let ends = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\' | b' ' | b'\n');
    pattern
        .as_bytes()
        .iter()
        .position(ends)
        .unwrap_or(pattern.len())
}

/// Whether the text matches the pattern of `*`, `?`, `[a-z]` and `[!a-z]`, as fnmatch(3) without
/// flags. Goes back to the last `*` only, so a pattern of many stars takes no exponential time.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        if let Some(rest) = text.first().and_then(|&byte| match_one(pattern, byte)) {
            pattern = rest;
            text = &text[1..];
            continue;
        }
        match retry {
            Some((after_star, [_, shorter @ ..])) => {
                pattern = after_star;
                text = shorter;
                retry = Some((after_star, shorter));
            }
            _ => return false,
        }
    }
}

/// The pattern after its first element, if that matches this byte.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => match_class(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// What follows a class `a-z]`, if the class has the byte; an unclosed class matches nothing.
fn match_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut members) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut first = true;
    loop {
        members = match members {
            [b']', rest @ ..] if !first => return (found != negated).then_some(rest),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [member, rest @ ..] => {
                found |= *member == byte;
                rest
            }
            [] => return None,
        };
        first = false;
    }
}

const KEYWORD: &str = "alias ";

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_as_fnmatch_does() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a*b*c", "axbxbxc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[0-9a-f]c", "aec", true),
            ("a[0-9]c", "axc", false),
            ("a[!0-9]c", "axc", true),
            ("a[]x]c", "a]c", true),
            ("a[xyz", "ax", false),
            ("d000[2-4]*", "d0003abc", true),
            (
                "usb:v*p*d*dc*dsc*dp*ic03isc*ip*in*",
                "usb:v1p2d3dc0dsc0dp0ic03isc1ip1in00",
                true,
            ),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                matches,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn all_modules_of_a_device_are_found_and_dashes_are_underscores() {
        let file = "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio-pci\nalias pci:v*d*sv* any\n\
            junk\nalias of:N*T*Cvendor,a-b* of-driver\nalias platform:x y\nalias";
        let table = AliasTable::parse(file);
        let mut found = table.matching("pci:v00001AF4d00001000sv00001AF4sd1bc02sc00i00");
        found.sort_unstable();
        assert_eq!(found, ["any", "virtio_pci"]);
        assert_eq!(table.matching("of:NcT(null)Cvendor,a-b"), ["of_driver"]);
        assert!(table.matching("pci:").is_empty());
        assert!(table.matching("").is_empty());
    }

    #[test]
    fn a_hundred_questions_to_a_big_table_are_quick() {
        let file: String = (0..20_000)
            .map(|n| {
                format!(
                    "alias pci:v{:08X}d{n:08X}sv*sd*bc*sc*i* driver{n}\n",
                    n % 200
                )
            })
            .collect();
        let began = Instant::now();
        let table = AliasTable::parse(&file);
        for n in 0..100 {
            let alias = format!(
                "pci:v{:08X}d{n:08X}sv00000000sd00000000bc02sc00i00",
                n % 200
            );
            assert_eq!(table.matching(&alias), [format!("driver{n}")]);
        }
        // Some milliseconds; comparing each with each takes minutes in a debug build.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }

    proptest! {
        #[test]
        fn any_pattern_and_text_end(pattern in "[a\\*\\?\\[\\]!-]{0,40}", text in "[a-c\\]-]{0,40}") {
            let _ = glob(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_text_matches_itself_and_its_starred_self(text in "[a-z:0-9]{0,30}", at in 0_usize..30) {
            prop_assert!(glob(text.as_bytes(), text.as_bytes()));
            let at = at.min(text.len());
            let starred = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(glob(starred.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn hostile_tables_never_panic(file in "[ a-zé\\*\\[\\n-]{0,200}", alias in "[a-zé*-]{0,20}") {
            let table = AliasTable::parse(&file);
            let _ = table.matching(&alias);
        }
    }
}
