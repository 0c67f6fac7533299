//! Bytes from a terminal, taken apart into keys.
//!
//! A pure state machine: it holds at most one unfinished character or escape sequence, whatever
//! arrives, and what it does not know it swallows whole instead of typing it into the line.

/// A key that means something to the editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Backspace, as DEL or BS.
    Backspace,
    /// A character to insert.
    Char(char),
    /// Control and this letter, lower case: `'c'` for Ctrl-C.
    Control(char),
    /// Delete: the character under the cursor.
    Delete,
    /// Arrow down.
    Down,
    /// To the end of the line.
    End,
    /// Return, or a line feed that no return came before.
    Enter,
    /// To the beginning of the line.
    Home,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Complete the word.
    Tab,
    /// Arrow up.
    Up,
}

/// The decoder's state between two bytes.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    state: State,
}

impl Keys {
    /// Takes one byte; gives the key that it ends, if any.
    pub(crate) fn feed(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Return if byte == b'\n' => None,
            State::Return => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Csi { parameter } => self.csi(parameter, byte),
            State::Ss3 => final_key(byte),
            State::Utf8 { bytes, have, need } => self.utf8(bytes, have, need, byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'\r' => {
                self.state = State::Return;
                Some(Key::Enter)
            }
            b'\n' => Some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 | 0x7f => Some(Key::Backspace),
            0x1b => {
                self.state = State::Escape;
                None
            }
            0x01..=0x1a => Some(Key::Control(char::from(byte + b'a' - 1))),
            b' '..=b'~' => Some(Key::Char(char::from(byte))),
            0xc2..=0xdf => self.begin_utf8(byte, 2),
            0xe0..=0xef => self.begin_utf8(byte, 3),
            0xf0..=0xf4 => self.begin_utf8(byte, 4),
            0x00 | 0x1c..=0x1f | 0x80..=0xc1 | 0xf5..=0xff => None,
        }
    }

    fn begin_utf8(&mut self, byte: u8, need: usize) -> Option<Key> {
        self.state = State::Utf8 {
            bytes: [byte, 0, 0, 0],
            have: 1,
            need,
        };
        None
    }

    fn utf8(&mut self, mut bytes: [u8; 4], have: usize, need: usize, byte: u8) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            // The character was cut short; this byte begins something else.
            return self.ground(byte);
        }
        bytes[have] = byte;
        if have + 1 < need {
            self.state = State::Utf8 {
                bytes,
                have: have + 1,
                need,
            };
            return None;
        }
        let text = str::from_utf8(&bytes[..need]).ok()?;
        text.chars()
            .next()
            .filter(|c| !c.is_control())
            .map(Key::Char)
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Csi { parameter: 0 },
            b'O' => self.state = State::Ss3,
            0x1b => self.state = State::Escape,
            // Alt and a key: not used here.
            b' '..=b'~' => {}
            _ => return self.ground(byte),
        }
        None
    }

    fn csi(&mut self, parameter: u16, byte: u8) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                let digit = u16::from(byte - b'0');
                let parameter = parameter.saturating_mul(10).saturating_add(digit);
                self.state = State::Csi { parameter };
                None
            }
            // Modifiers and private marks: the final byte still ends the sequence.
            b' '..=b'?' => {
                self.state = State::Csi { parameter };
                None
            }
            b'~' => match parameter {
                1 | 7 => Some(Key::Home),
                3 => Some(Key::Delete),
                4 | 8 => Some(Key::End),
                _ => None,
            },
            b'@'..=b'}' => final_key(byte),
            _ => self.ground(byte),
        }
    }
}

#[derive(Debug, Default)]
enum State {
    Csi {
        parameter: u16,
    },
    Escape,
    #[default]
    Ground,
    /// After a return: a line feed belongs to it.
    Return,
    Ss3,
    Utf8 {
        bytes: [u8; 4],
        have: usize,
        need: usize,
    },
}

fn final_key(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'F' => Some(Key::End),
        b'H' => Some(Key::Home),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Keys::default();
        bytes
            .iter()
            .filter_map(|&byte| decoder.feed(byte))
            .collect()
    }

    #[test]
    fn arrows_home_end_and_delete_in_each_terminal_s_way() {
        assert_eq!(keys(b"\x1b[A\x1bOB"), [Key::Up, Key::Down]);
        assert_eq!(keys(b"\x1b[H\x1b[1~\x1b[7~\x1bOH"), [Key::Home; 4]);
        assert_eq!(keys(b"\x1b[F\x1b[4~\x1b[8~"), [Key::End; 3]);
        assert_eq!(keys(b"\x1b[3~\x1b[1;5C"), [Key::Delete, Key::Right]);
    }

    #[test]
    fn a_line_end_is_one_key_however_it_is_sent() {
        assert_eq!(keys(b"\r\n"), [Key::Enter]);
        assert_eq!(keys(b"\n\r"), [Key::Enter, Key::Enter]);
        assert_eq!(keys(b"\r\r\n\n"), [Key::Enter; 3]);
    }

    #[test]
    fn characters_may_be_cut_and_the_next_is_still_read() {
        assert_eq!(
            keys("ä€😀".as_bytes()),
            [Key::Char('ä'), Key::Char('€'), Key::Char('😀')]
        );
        assert_eq!(keys(b"\xe2\x82a"), [Key::Char('a')]);
        assert_eq!(keys(b"\xff\xc0\xed\xa0\x80b"), [Key::Char('b')]);
    }

    #[test]
    fn unknown_sequences_type_nothing() {
        assert_eq!(keys(b"\x1b[200~\x1b[?25h\x1bx\x1b[99999999Z"), []);
        assert_eq!(keys(b"\x1b[\x03"), [Key::Control('c')]);
    }
}
