//! What the door's fuzzing needs to know of HTTP/2.

use super::{
    frame::{self, Head, MAX_FRAME},
    hpack::{self, Decoder},
    message::Section,
};

/// A client's preface and its empty settings.
pub(in super::super) const GREETING: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads sections one after the other, and each request that they are; what was read is written and
/// read again.
pub(in super::super) fn sections<'s>(all: impl Iterator<Item = &'s [u8]>) {
    let mut decoder = Decoder::default();
    for block in all {
        let mut fields = Vec::new();
        let mut copy = decoder.clone();
        let read = copy.decode(block, |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
        });
        copy.check();
        let section = Section::decode(&mut decoder, block);
        assert_eq!(section.is_ok(), read.is_ok());
        let Ok(section) = section else {
            return;
        };
        let _ = (section.request(true), section.request(false));
        let mut written = Vec::new();
        for (name, value) in &fields {
            hpack::encode(name, value, &mut written);
        }
        let mut again = Vec::new();
        Decoder::default()
            .decode(&written, |name, value| {
                again.push((name.to_vec(), value.to_vec()));
            })
            .expect("what we write can be read");
        assert_eq!(again, fields);
    }
}

/// What the door writes is whole frames of a size that every client takes.
pub(in super::super) fn check(mut output: &[u8]) {
    while !output.is_empty() {
        let head = Head::parse(output).expect("a whole frame's head");
        assert!(head.length <= MAX_FRAME, "{head:?}");
        let frame = output.get(frame::HEAD + head.length..);
        output = frame.expect("a whole frame");
    }
}
