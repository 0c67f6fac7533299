//! Requests over HTTP/2, several at once on each connection.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    contender::Contender,
    requests::{ACCEPT, AGENT, ENCODING, LANGUAGE, Load, Script},
    table::Sample,
};

/// Small answers.
pub(crate) fn requests(contender: &Contender, time: Duration) -> Result<Sample> {
    let load = Load::begin(contender, "h2", 8, |_| Http2::new(8, 128))?;
    let got = load.run(contender, time)?;
    Ok(Sample::rate(
        got.units as f64,
        "requests/s",
        "µs",
        1e6,
        &got,
    ))
}

/// The client's side of one connection, as far as that takes no more than counting.
struct Http2 {
    input: Vec<u8>,
    at_once: u32,
    next: u32,
    path: String,
    has_spoken: bool,
}

impl Http2 {
    fn new(at_once: u32, size: usize) -> Self {
        Self {
            input: Vec::new(),
            at_once,
            next: 1,
            path: format!("/{size}"),
            has_spoken: false,
        }
    }

    /// A request: in full the first time, then from the table, as browsers do it.
    fn ask(&mut self, out: &mut Vec<u8>) {
        let mut block = vec![0x82, 0x87];
        // Names by their place in the standard's table (RFC 7541, A).
        let fields = [
            (4, self.path.as_str()),
            (1, "localhost"),
            (58, AGENT),
            (19, ACCEPT),
            (16, ENCODING),
            (17, LANGUAGE),
        ];
        for (nth, (name, value)) in fields.iter().enumerate() {
            if self.has_spoken {
                block.push(0x80 | (61 + fields.len() - nth) as u8);
            } else {
                block.push(0x40 | name);
                block.push(value.len() as u8);
                block.extend_from_slice(value.as_bytes());
            }
        }
        self.has_spoken = true;
        frame(HEADERS, END_HEADERS | END_STREAM, self.next, &block, out);
        self.next += 2;
    }
}

impl Script for Http2 {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(SETTINGS, 0, 0, &[], out);
        frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes(), out);
        (0..self.at_once).for_each(|_| self.ask(out));
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<u64> {
        self.input.extend_from_slice(bytes);
        let (mut units, mut at) = (0, 0);
        while let Some(&[a, b, c, kind, flags, ..]) = self.input.get(at..at + 9) {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = self.input.get(at + 9..at + 9 + length) else {
                break;
            };
            at += 9 + length;
            match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], out),
                HEADERS => {
                    // Status 200 is one byte; before it may be what limits the table.
                    let plain = payload.iter().find(|byte| *byte & 0xe0 != 0x20);
                    ensure!(plain == Some(&0x88), "an answer is not 200");
                }
                RST_STREAM | GOAWAY => anyhow::bail!("a stream or all was ended: {payload:?}"),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                units += 1;
                self.ask(out);
            }
        }
        self.input.drain(..at);
        Ok(units)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
