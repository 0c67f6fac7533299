//! The line editor: keys in, bytes for the terminal and events out. It reads and writes nothing.
//!
//! It draws with carriage return, backspace, blanks and printable characters only, and never past
//! the line's last column but one, so that it looks right on a dumb serial line too; a line longer
//! than the terminal is shown through a window that follows the cursor. Every character is taken
//! to be one column wide.

mod history;
mod screen;

use history::History;
use screen::Screen;

use super::keys::{Key, Keys};

/// What the user did that the editor itself does not know how to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Ctrl-L: the screen was cleared.
    Cleared,
    /// Tab: complete the word that ends at the cursor. Answer with [`Editor::complete`].
    Complete,
    /// Ctrl-D on an empty line.
    EndOfInput,
    /// Ctrl-C: the line was given up.
    Interrupted,
    /// Return: the line, as typed.
    Line(String),
}

/// A line being edited.
#[derive(Debug)]
pub(crate) struct Editor {
    keys: Keys,
    line: Vec<char>,
    cursor: usize,
    history: History,
    screen: Screen,
}

impl Editor {
    /// An empty line behind `prompt`; nothing is drawn until [`Editor::show`].
    pub(crate) fn new(prompt: &str) -> Self {
        Self {
            keys: Keys::default(),
            line: Vec::new(),
            cursor: 0,
            history: History::default(),
            screen: Screen::new(prompt),
        }
    }

    /// Sets the terminal's width in columns (for the next drawing).
    pub(crate) fn set_width(&mut self, columns: usize) {
        self.screen.set_width(columns);
    }

    /// The part of the line before the cursor.
    pub(crate) fn before_cursor(&self) -> String {
        self.line[..self.cursor].iter().collect()
    }

    /// Draws prompt and line. Only to be called at a line's beginning.
    pub(crate) fn show(&mut self, out: &mut Vec<u8>) {
        self.screen.draw(&self.line, self.cursor, out);
    }

    /// Blanks what is drawn, so that something else can be written in its place.
    pub(crate) fn hide(&mut self, out: &mut Vec<u8>) {
        self.screen.blank(out);
    }

    /// Takes one byte from the terminal; what is to be written to it is added to `out`.
    pub(crate) fn feed(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Event> {
        let key = self.keys.feed(byte)?;
        match key {
            Key::Char(c) => self.insert(&[c], out),
            Key::Backspace | Key::Control('h') if self.cursor > 0 => {
                self.erase(self.cursor - 1, self.cursor, out);
            }
            Key::Control('d') if self.line.is_empty() => return Some(Event::EndOfInput),
            Key::Delete | Key::Control('d') if self.cursor < self.line.len() => {
                self.erase(self.cursor, self.cursor + 1, out);
            }
            Key::Control('k') => self.erase(self.cursor, self.line.len(), out),
            Key::Control('u') => self.erase(0, self.cursor, out),
            Key::Control('w') => self.erase(self.word_start(), self.cursor, out),
            Key::Home | Key::Control('a') => self.move_to(0, out),
            Key::End | Key::Control('e') => self.move_to(self.line.len(), out),
            Key::Left | Key::Control('b') => self.move_to(self.cursor.saturating_sub(1), out),
            Key::Right | Key::Control('f') => self.move_to(self.cursor + 1, out),
            Key::Up | Key::Control('p') => self.recall(History::older, out),
            Key::Down | Key::Control('n') => self.recall(History::newer, out),
            Key::Control('l') => return Some(self.clear(out)),
            Key::Control('c') => return Some(self.interrupt(out)),
            Key::Enter => return Some(self.enter(out)),
            Key::Tab => return Some(Event::Complete),
            Key::Backspace | Key::Delete | Key::Control(_) => {}
        }
        None
    }

    /// Completes the word before the cursor with what all `candidates` have in common, and a
    /// blank if there is but one. Whether that changed the line; if not, the candidates are worth
    /// showing.
    pub(crate) fn complete(&mut self, candidates: &[String], out: &mut Vec<u8>) -> bool {
        let Some(first) = candidates.first() else {
            return false;
        };
        let common = candidates
            .iter()
            .skip(1)
            .fold(first.as_str(), |a, b| common_prefix(a, b));
        let typed = self.cursor - self.word_start_exact();
        let mut rest: Vec<char> = common.chars().skip(typed).collect();
        if candidates.len() == 1 && self.line.get(self.cursor) != Some(&' ') {
            rest.push(' ');
        }
        self.insert(&rest, out);
        !rest.is_empty()
    }

    fn insert(&mut self, text: &[char], out: &mut Vec<u8>) {
        if self.line.len() + text.len() > MAX_LINE {
            out.push(BELL);
            return;
        }
        self.line
            .splice(self.cursor..self.cursor, text.iter().copied());
        self.cursor += text.len();
        self.screen.draw(&self.line, self.cursor, out);
    }

    fn erase(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        self.line.drain(from..to);
        self.cursor = from;
        self.screen.draw(&self.line, self.cursor, out);
    }

    fn move_to(&mut self, cursor: usize, out: &mut Vec<u8>) {
        self.cursor = cursor.min(self.line.len());
        self.screen.draw(&self.line, self.cursor, out);
    }

    fn recall(&mut self, step: fn(&mut History, &str) -> Option<String>, out: &mut Vec<u8>) {
        let current: String = self.line.iter().collect();
        let Some(line) = step(&mut self.history, &current) else {
            return;
        };
        self.line = line.chars().collect();
        self.move_to(self.line.len(), out);
    }

    fn clear(&mut self, out: &mut Vec<u8>) -> Event {
        out.extend_from_slice(CLEAR);
        self.screen.forget();
        self.show(out);
        Event::Cleared
    }

    fn interrupt(&mut self, out: &mut Vec<u8>) -> Event {
        self.move_to(self.line.len(), out);
        out.extend_from_slice(b"^C\r\n");
        self.begin_line();
        Event::Interrupted
    }

    fn enter(&mut self, out: &mut Vec<u8>) -> Event {
        self.move_to(self.line.len(), out);
        out.extend_from_slice(b"\r\n");
        let line: String = self.line.iter().collect();
        self.history.add(&line);
        self.begin_line();
        Event::Line(line)
    }

    fn begin_line(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.screen.forget();
    }

    /// Where Ctrl-W erases from: blanks before the cursor go with the word before them.
    fn word_start(&self) -> usize {
        let word_end = self.line[..self.cursor]
            .iter()
            .rposition(|&c| c != ' ')
            .map_or(0, |i| i + 1);
        self.line[..word_end]
            .iter()
            .rposition(|&c| c == ' ')
            .map_or(0, |i| i + 1)
    }

    fn word_start_exact(&self) -> usize {
        self.line[..self.cursor]
            .iter()
            .rposition(|&c| c == ' ')
            .map_or(0, |i| i + 1)
    }
}

/// Clears a terminal that understands ECMA-48 and puts the cursor in its corner.
pub(crate) const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// In characters; no command needs more, and whatever is pasted stays bounded.
const MAX_LINE: usize = 1024;
const BELL: u8 = 7;

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let end = a
        .char_indices()
        .zip(b.chars())
        .find(|((_, x), y)| x != y)
        .map(|((at, _), _)| at);
    &a[..end.unwrap_or_else(|| a.len().min(b.len()))]
}

#[cfg(test)]
mod tests;
