//! HPACK (RFC 7541): field sections read, with every size bounded, and written.
//!
//! What is written uses the static table and plain literals only, so a section needs no memory of
//! those before it and can be made before its turn comes. The dynamic table of the client's own
//! sections is what the standard gives by default, 4096 bytes.

use std::collections::VecDeque;

use super::huffman;

/// A section that can't be decoded; the connection can't go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadSection;

/// The reading side of one connection.
#[derive(Debug, Default)]
#[cfg_attr(any(test, fuzzing), derive(Clone))]
pub(super) struct Decoder {
    /// The newest first.
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// What the entries count for, in the standard's measure.
    size: usize,
    /// How far the client wants the table limited, below [`TABLE`].
    lowered: Option<usize>,
}

impl Decoder {
    /// Reads one whole section and gives each field to `take`, in order.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadSection> {
        let (mut name, mut value) = (Vec::new(), Vec::new());
        let mut begun = false;
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(integer(&mut block, 7)?)?;
                    take(name, value);
                }
                0x40.. => {
                    self.literal(&mut block, 6, &mut name, &mut value)?;
                    take(&name, &value);
                    self.insert(&name, &value);
                }
                0x20.. if begun => return Err(BadSection),
                0x20.. => {
                    self.limit(integer(&mut block, 5)?)?;
                    continue;
                }
                _ => {
                    self.literal(&mut block, 4, &mut name, &mut value)?;
                    take(&name, &value);
                }
            }
            begun = true;
        }
        Ok(())
    }

    /// The table is never larger than the client was told.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        let count = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + ENTRY;
        assert_eq!(self.size, self.entries.iter().map(count).sum::<usize>());
        assert!(self.size <= self.lowered.unwrap_or(TABLE));
    }

    fn literal(
        &self,
        block: &mut &[u8],
        prefix: u32,
        name: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<(), BadSection> {
        name.clear();
        value.clear();
        match integer(block, prefix)? {
            0 => string(block, name)?,
            index => name.extend_from_slice(self.entry(index)?.0),
        }
        string(block, value)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), BadSection> {
        let index = index.checked_sub(1).ok_or(BadSection)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC.len());
        entry
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .ok_or(BadSection)
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let most = self.lowered.unwrap_or(TABLE);
        let size = name.len() + value.len() + ENTRY;
        self.shrink(most.saturating_sub(size));
        if size <= most {
            self.entries.push_front((name.to_vec(), value.to_vec()));
            self.size += size;
        }
    }

    fn limit(&mut self, most: usize) -> Result<(), BadSection> {
        if most > TABLE {
            return Err(BadSection);
        }
        self.lowered = Some(most);
        self.shrink(most);
        Ok(())
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= name.len() + value.len() + ENTRY;
        }
    }
}

/// Appends a field to a section. `name` must be in lower case.
pub(in super::super) fn encode(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    // A literal that nobody should put into a table (RFC 7541, 6.2.2).
    match named(name) {
        Some(index) => put_integer(index, 4, 0, to),
        None => {
            to.push(0);
            put_string(name, to);
        }
    }
    put_string(value, to);
}

/// Appends the status that a response's section begins with.
pub(in super::super) fn encode_status(status: u16, to: &mut Vec<u8>) {
    let known = [200, 204, 206, 304, 400, 404, 500];
    match known.iter().position(|known| *known == status) {
        Some(nth) => to.push(0x80 | (FIRST_STATUS + nth) as u8),
        None => {
            put_integer(FIRST_STATUS, 4, 0, to);
            put_string(status.to_string().as_bytes(), to);
        }
    }
}

/// The update that says that no dynamic table is used, before the first section written.
pub(super) const NO_TABLE: u8 = 0x20;

fn named(name: &[u8]) -> Option<usize> {
    // Pseudo-fields and what follows them in the table are never looked up by name.
    let plain = STATIC.iter().skip(PSEUDO);
    let mut found = plain
        .enumerate()
        .filter(|(_, (known, _))| known.len() == name.len() && known.as_bytes() == name);
    found.next().map(|(nth, _)| nth + PSEUDO + 1)
}

/// An integer with a prefix of `prefix` bits (RFC 7541, 5.1); more than four bytes are refused.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, BadSection> {
    let (&first, mut rest) = block.split_first().ok_or(BadSection)?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(BadSection)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift >= 28 {
                return Err(BadSection);
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadSection> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(BadSection)?;
    *block = rest;
    if coded {
        return huffman::decode(text, out).map_err(|_| BadSection);
    }
    out.extend_from_slice(text);
    Ok(())
}

fn put_string(text: &[u8], to: &mut Vec<u8>) {
    put_integer(text.len(), 7, 0, to);
    to.extend_from_slice(text);
}

fn put_integer(mut value: usize, prefix: u32, flags: u8, to: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return to.push(flags | value as u8);
    }
    to.push(flags | most as u8);
    value -= most;
    while value >= 0x80 {
        to.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The most that the client's dynamic table counts for, in bytes: the standard's first value, which
/// no setting of ours changes.
const TABLE: usize = 4096;
/// What an entry counts for beside its text (RFC 7541, 4.1).
const ENTRY: usize = 32;
/// The index of `:status: 200`; the other common ones follow.
const FIRST_STATUS: usize = 8;
/// How many pseudo-fields the static table begins with.
const PSEUDO: usize = 14;
/// The static table (RFC 7541, appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, BadSection> {
        let mut fields = Vec::new();
        decoder.decode(block, |name, value| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            fields.push(format!("{}: {}", text(name), text(value)));
        })?;
        Ok(fields)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        hex.chunks(2).map(|two| pair(two).unwrap()).collect()
    }

    #[test]
    fn the_standards_requests_are_understood() {
        // RFC 7541, C.4: three requests on one connection, in the Huffman code.
        let mut decoder = Decoder::default();
        let common = [
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
        ];
        let first = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        assert_eq!(decode(&mut decoder, &first).unwrap(), common);
        let second = bytes("8286 84be 5886 a8eb 1064 9cbf");
        let got = decode(&mut decoder, &second).unwrap();
        assert_eq!(got[4], "cache-control: no-cache");
        assert_eq!(decoder.size, 110);
        let third = bytes("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
        let got = decode(&mut decoder, &third).unwrap();
        assert_eq!(got[1..3], [":scheme: https", ":path: /index.html"]);
        assert_eq!(got[4], "custom-key: custom-value");
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn what_was_written_is_read_again() {
        let long = "x".repeat(5000);
        let fields = [
            ("content-type", "text/html"),
            ("x-own", ""),
            ("set-cookie", long.as_str()),
            ("a", "\u{e9}"),
        ];
        let mut block = vec![NO_TABLE];
        encode_status(200, &mut block);
        encode_status(503, &mut block);
        for (name, value) in fields {
            encode(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let got = decode(&mut Decoder::default(), &block).unwrap();
        let mut expected = vec![":status: 200".to_owned(), ":status: 503".to_owned()];
        expected.extend(fields.map(|(name, value)| format!("{name}: {value}")));
        assert_eq!(got, expected);
    }

    #[test]
    fn damaged_sections_are_refused() {
        for hex in [
            "80",                // index 0
            "be",                // an entry that is not there
            "ff ff ff ff ff 0f", // an integer without end
            "3f e2 1f",          // a table larger than allowed
            "82 20",             // a size update after a field
            "41",                // no value
            "00 05 61",          // a string longer than the section
            "00 81 ff 00",       // padding of eight bits
        ] {
            let got = decode(&mut Decoder::default(), &bytes(hex));
            assert_eq!(got, Err(BadSection), "{hex}");
        }
    }

    #[test]
    fn the_table_never_outgrows_its_limit() {
        let mut decoder = Decoder::default();
        for length in (0..9000).step_by(97) {
            let mut block = vec![0x40];
            put_string(b"n", &mut block);
            put_string(&vec![b'v'; length], &mut block);
            decode(&mut decoder, &block).unwrap();
            let counted: usize = decoder
                .entries
                .iter()
                .map(|(n, v)| n.len() + v.len() + 32)
                .sum();
            assert!(counted == decoder.size && counted <= TABLE);
        }
        decode(&mut decoder, &[0x20]).unwrap();
        assert!(decoder.entries.is_empty() && decoder.size == 0);
    }
}
