use super::*;

/// A terminal as dumb as can be: it knows return, line feed, backspace and characters.
#[derive(Default)]
struct Glass {
    rows: Vec<Vec<char>>,
    column: usize,
    widest: usize,
}

impl Glass {
    fn take(&mut self, bytes: &mut Vec<u8>) {
        let text = String::from_utf8(std::mem::take(bytes)).expect("the editor writes UTF-8");
        for c in text.chars() {
            if self.rows.is_empty() {
                self.rows.push(Vec::new());
            }
            let row = self.rows.last_mut().unwrap();
            match c {
                '\r' => self.column = 0,
                '\n' => self.rows.push(Vec::new()),
                '\x08' => self.column = self.column.checked_sub(1).expect("left of the margin"),
                '\x07' => {}
                c => {
                    assert!(!c.is_control(), "{c:?} is drawn");
                    row.resize(row.len().max(self.column + 1), ' ');
                    row[self.column] = c;
                    self.column += 1;
                    self.widest = self.widest.max(self.column);
                }
            }
        }
    }

    fn row(&self) -> String {
        self.rows
            .last()
            .map(|row| row.iter().collect())
            .unwrap_or_default()
    }
}

fn typed(editor: &mut Editor, keys: &[u8]) -> (String, Vec<Event>) {
    let (mut out, mut glass) = (Vec::new(), Glass::default());
    editor.show(&mut out);
    let events = keys
        .iter()
        .filter_map(|&byte| editor.feed(byte, &mut out))
        .collect();
    glass.take(&mut out);
    (glass.row(), events)
}

fn line_after(keys: &str) -> String {
    let (_, events) = typed(&mut Editor::new("> "), format!("{keys}\r").as_bytes());
    match events.last() {
        Some(Event::Line(line)) => line.clone(),
        other => panic!("{other:?} instead of a line"),
    }
}

#[test]
fn editing_keys_do_what_they_do_everywhere() {
    assert_eq!(line_after("stauts\x1b[D\x1b[D\x08\x1b[Cu"), "status");
    assert_eq!(line_after("ogs\x01l\x05 demo"), "logs demo");
    assert_eq!(line_after("logs  demo  \x17x"), "logs  x");
    assert_eq!(line_after("abc\x1b[D\x0b"), "ab");
    assert_eq!(line_after("abc\x1b[D\x15"), "c");
    assert_eq!(line_after("äöü\x7f\x1b[D\x04"), "ä");
    assert_eq!(line_after("one\rtwo\r\x1b[A\x1b[A"), "one");
}

#[test]
fn control_c_gives_the_line_up_and_control_d_ends_only_an_empty_one() {
    let (_, events) = typed(&mut Editor::new("> "), b"abc\x03\x04");
    assert_eq!(events, [Event::Interrupted, Event::EndOfInput]);
}

#[test]
fn completion_inserts_what_candidates_share_and_a_blank_after_the_only_one() {
    let mut editor = Editor::new("> ");
    typed(&mut editor, b"re");
    let mut out = Vec::new();
    let two = ["restart".to_owned(), "reset".to_owned()];
    assert!(editor.complete(&two, &mut out));
    assert_eq!(editor.before_cursor(), "res");
    assert!(!editor.complete(&two, &mut out), "nothing more is shared");
    assert!(editor.complete(&two[..1], &mut out));
    assert_eq!(editor.before_cursor(), "restart ");
}

#[test]
fn a_line_longer_than_the_terminal_is_seen_through_a_window() {
    let mut editor = Editor::new("> ");
    editor.set_width(20);
    let (row, _) = typed(&mut editor, b"abcdefghijklmnopqrstuvwxyz");
    assert_eq!(row.trim_end(), "> klmnopqrstuvwxyz");
    editor.hide(&mut Vec::new());
    let (row, _) = typed(&mut editor, b"\x01");
    assert!(row.starts_with("> abcdefghijklmnop"), "{row}");
}

#[test]
fn hiding_leaves_an_empty_row() {
    let (mut editor, mut out, mut glass) = (Editor::new("> "), Vec::new(), Glass::default());
    editor.show(&mut out);
    b"status"
        .iter()
        .for_each(|&byte| assert_eq!(editor.feed(byte, &mut out), None));
    editor.hide(&mut out);
    glass.take(&mut out);
    assert_eq!((glass.row().trim(), glass.column), ("", 0));
    editor.show(&mut out);
    glass.take(&mut out);
    assert_eq!((glass.row().trim_end(), glass.column), ("> status", 8));
}

/// Whatever is typed, the glass shows the editor's line at the editor's cursor.
#[test]
fn what_is_shown_is_what_is_edited() {
    for seed in 1..400 {
        let mut random = Random(seed);
        let width = 16 + random.below(80);
        let (mut editor, mut out, mut glass) = (Editor::new("> "), Vec::new(), Glass::default());
        editor.set_width(width);
        editor.show(&mut out);
        for _ in 0..random.below(400) {
            let byte = random.key();
            // Clearing needs a terminal that knows how.
            if byte == 0x0c {
                continue;
            }
            if let Some(Event::Line(_) | Event::Interrupted) = editor.feed(byte, &mut out) {
                editor.show(&mut out);
            }
            glass.take(&mut out);
            shows(&glass, &editor, width);
        }
        assert!(
            glass.widest <= width,
            "seed {seed}: drew {} of {width} columns",
            glass.widest
        );
    }
}

fn shows(glass: &Glass, editor: &Editor, width: usize) {
    let line: String = editor.line.iter().collect();
    let row = glass.row();
    let shown = row
        .strip_prefix("> ")
        .expect("the prompt stands")
        .trim_end();
    assert!(line.contains(shown), "{shown:?} of {line:?}");
    let before: String = row.chars().skip(2).take(glass.column - 2).collect();
    assert!(
        editor.before_cursor().ends_with(&before),
        "{before:?} before the cursor of {line:?}"
    );
    if editor.line.len() < width - "> ".len() - 1 {
        assert_eq!(shown, line.trim_end());
    }
}

/// Xorshift: the same bytes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// Mostly text and editing keys, sometimes anything.
    fn key(&mut self) -> u8 {
        match self.below(10) {
            0 => self.below(256) as u8,
            1 | 2 => b"\x01\x05\x0b\x15\x17\x02\x06\x7f\x08\x04\x10\x0e\x03\r"[self.below(14)],
            3 => b"\x1b[ABCDHF3~"[self.below(10)],
            4 => "äß€".as_bytes()[self.below(7)],
            _ => b' ' + self.below(95) as u8,
        }
    }
}
