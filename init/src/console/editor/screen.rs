//! What of the line is on the terminal, and the bytes that bring it up to date.

/// One row of a terminal: the prompt and a window into the line.
#[derive(Debug)]
pub(crate) struct Screen {
    prompt: Vec<char>,
    width: usize,
    /// The characters drawn so far, without blanks at the end that were drawn to erase.
    drawn: Vec<char>,
    /// The terminal's cursor, in columns.
    column: usize,
    /// First character of the line that is shown.
    first: usize,
}

impl Screen {
    /// Nothing drawn yet.
    pub(crate) fn new(prompt: &str) -> Self {
        Self {
            prompt: prompt.chars().collect(),
            width: DEFAULT_WIDTH,
            drawn: Vec::new(),
            column: 0,
            first: 0,
        }
    }

    /// The terminal is this many columns wide.
    pub(crate) fn set_width(&mut self, columns: usize) {
        self.width = columns.max(self.prompt.len() + MIN_WINDOW + 1);
    }

    /// Brings the row to show `line` with the cursor before its character `cursor`.
    pub(crate) fn draw(&mut self, line: &[char], cursor: usize, out: &mut Vec<u8>) {
        // The last column stays free: writing there makes some terminals wrap.
        let window = self.width - 1 - self.prompt.len();
        self.first = self
            .first
            .min(cursor)
            .max((cursor + 1).saturating_sub(window));
        if line.len() < window {
            self.first = 0;
        }
        let shown = &line[self.first..line.len().min(self.first + window)];
        let wanted: Vec<char> = self.prompt.iter().chain(shown).copied().collect();
        let same = self
            .drawn
            .iter()
            .zip(&wanted)
            .take_while(|(a, b)| a == b)
            .count();
        if same < wanted.len() || same < self.drawn.len() {
            self.go_to(same, out);
            self.write(&wanted[same..], out);
            let stale = self.drawn.len().saturating_sub(wanted.len());
            self.write(&vec![' '; stale], out);
            self.drawn = wanted;
        }
        self.go_to(self.prompt.len() + cursor - self.first, out);
    }

    /// Blanks the row and goes to its beginning.
    pub(crate) fn blank(&mut self, out: &mut Vec<u8>) {
        out.push(b'\r');
        out.extend(std::iter::repeat_n(b' ', self.drawn.len()));
        out.push(b'\r');
        self.forget();
    }

    /// The terminal's cursor is at the beginning of an empty row.
    pub(crate) fn forget(&mut self) {
        self.drawn.clear();
        self.column = 0;
        self.first = 0;
    }

    fn write(&mut self, text: &[char], out: &mut Vec<u8>) {
        for c in text {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.column += text.len();
    }

    /// To the right by writing again what is there: no escape sequence is needed.
    fn go_to(&mut self, column: usize, out: &mut Vec<u8>) {
        if column == 0 && self.column > 0 {
            out.push(b'\r');
        } else if column < self.column {
            out.extend(std::iter::repeat_n(8, self.column - column));
        } else {
            for c in &self.drawn[self.column..column] {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.column = column;
    }
}

/// What a serial terminal that does not say has.
const DEFAULT_WIDTH: usize = 80;
/// Columns for the line on a terminal that claims to be too narrow to work on.
const MIN_WINDOW: usize = 8;
