//! From a process's bytes to the log's lines: split, priority taken off, made harmless.
//!
//! Pure. Whatever is fed, it holds at most [`MAX_LINE`] bytes of an unfinished line, and what it
//! gives has no control character in it.

use std::fmt::Write as _;

use supervise::log::Level;

/// A line ready for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// Puts lines together from the pieces in which a process writes them.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    unfinished: Vec<u8>,
}

impl Assembler {
    /// Takes a piece; calls `line` for each line that it ends.
    pub(crate) fn push(&mut self, piece: &[u8], mut line: impl FnMut(Text)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.extend(&rest[..end], &mut line);
            line(text(&self.unfinished));
            self.unfinished.clear();
            rest = &rest[end + 1..];
        }
        self.extend(rest, &mut line);
    }

    /// Takes what was written in one write to a packet socket. One that has a priority begins a
    /// line: the one before it was cut by its writer.
    pub(crate) fn push_packet(&mut self, packet: &[u8], mut line: impl FnMut(Text)) {
        if priority(packet).is_some() {
            self.finish().map(&mut line);
        }
        self.push(packet, line);
    }

    /// Takes the unfinished line as it is, if there is one.
    pub(crate) fn finish(&mut self) -> Option<Text> {
        let bytes = std::mem::take(&mut self.unfinished);
        (!bytes.is_empty()).then(|| text(&bytes))
    }

    /// Whether a line was begun and not ended.
    pub(crate) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// A line that never ends becomes lines of [`MAX_LINE`].
    fn extend(&mut self, mut bytes: &[u8], line: &mut impl FnMut(Text)) {
        while self.unfinished.len() + bytes.len() > MAX_LINE {
            let (fits, rest) = bytes.split_at(MAX_LINE - self.unfinished.len());
            self.unfinished.extend_from_slice(fits);
            line(text(&self.unfinished));
            self.unfinished.clear();
            bytes = rest;
        }
        self.unfinished.extend_from_slice(bytes);
    }
}

/// The level that a syslog priority (its severity, 0 to 7) stands for here.
pub(crate) fn level(priority: u8) -> Level {
    match priority & 7 {
        0..=3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    }
}

/// Text that no terminal, browser or pager can be tricked with: control characters, marks that
/// turn the writing direction, and bytes that are no UTF-8 are written as their escapes.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => safe.push('\t'),
                c if c.is_ascii_control() => _ = write!(safe, "\\x{:02x}", u32::from(c)),
                c if c.is_control() || misleads(c) => _ = write!(safe, "\\u{{{:x}}}", u32::from(c)),
                c => safe.push(c),
            }
        }
        for byte in chunk.invalid() {
            _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

fn text(line: &[u8]) -> Text {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match priority(line) {
        Some(priority) => Text {
            level: level(priority),
            text: escape(&line[PREFIX..]),
        },
        None => Text {
            level: Level::Info,
            text: escape(line),
        },
    }
}

/// The priority of a line that begins with `<N>`.
fn priority(line: &[u8]) -> Option<u8> {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', ..] => Some(digit - b'0'),
        _ => None,
    }
}

/// Line and paragraph separators, and marks that change the direction of what follows.
fn misleads(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// In bytes as written; escaped it is four times that at most.
pub(crate) const MAX_LINE: usize = 4096;
/// The length of `<N>`.
const PREFIX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut assembler, mut lines) = (Assembler::default(), Vec::new());
        pieces
            .iter()
            .for_each(|piece| assembler.push(piece, |line| lines.push(line.text)));
        lines.extend(assembler.finish().map(|line| line.text));
        lines
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(
            lines(&[b"on", b"e\ntw", b"o\r\n\nthree"]),
            ["one", "two", "", "three"]
        );
    }

    #[test]
    fn a_priority_says_how_grave_a_line_is() {
        let level = |line: &str| text(line.as_bytes()).level;
        assert_eq!(
            text(b"<3>disk gone"),
            Text {
                level: Level::Error,
                text: "disk gone".into()
            }
        );
        assert_eq!(
            (level("<4>x"), level("<5>x"), level("<7>x")),
            (Level::Warning, Level::Info, Level::Debug)
        );
        assert_eq!(
            text(b"<9>x"),
            Text {
                level: Level::Info,
                text: "<9>x".into()
            }
        );
    }

    #[test]
    fn a_packet_with_a_priority_ends_a_line_that_was_cut() {
        let (mut assembler, mut lines) = (Assembler::default(), Vec::new());
        for packet in [&b"<6>cut off he"[..], b"<6>next\n", b"a ", b"b\n"] {
            assembler.push_packet(packet, |line| lines.push(line.text));
        }
        assert_eq!(lines, ["cut off he", "next", "a b"]);
    }

    #[test]
    fn an_endless_line_is_cut_into_bounded_ones() {
        let endless = vec![b'x'; 3 * MAX_LINE + 5];
        let lengths: Vec<_> = lines(&[&endless[..100], &endless[100..]])
            .iter()
            .map(String::len)
            .collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, MAX_LINE, 5]);
    }

    #[test]
    fn hostile_bytes_are_shown_and_not_obeyed() {
        assert_eq!(escape(b"\x1b[2J\0\x7f\ta"), "\\x1b[2J\\x00\\x7f\ta");
        assert_eq!(escape(b"\xff\xc3(\xc3\xa4"), "\\xff\\xc3(ä");
        assert_eq!(
            escape("\u{9b}31m\u{202e}cod\u{2028}".as_bytes()),
            "\\u{9b}31m\\u{202e}cod\\u{2028}"
        );
        let all: Vec<u8> = (0..=255).cycle().take(MAX_LINE).collect();
        let escaped = escape(&all);
        assert!(escaped.len() <= 4 * MAX_LINE);
        assert!(escaped.chars().all(|c| c == '\t' || !c.is_control()));
    }
}
