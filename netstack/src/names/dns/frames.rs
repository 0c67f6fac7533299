//! Messages in a stream of bytes, each behind its length in two bytes (RFC 1035, 4.2.2).

/// What has arrived and was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Takes in what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is there as a whole.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.taken..)?;
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = after.get(..length)?;
        self.taken += 2 + length;
        Some(message)
    }

    /// Bytes that wait.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }
}

/// Appends a message to what is to be written. One that is too long for a stream is left out.
pub(super) fn append(out: &mut Vec<u8>, message: &[u8]) {
    if let Ok(length) = u16::try_from(message.len()) {
        out.extend(length.to_be_bytes());
        out.extend_from_slice(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut stream = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            append(&mut stream, message);
        }
        append(&mut stream, &vec![0; 65_536]);
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut messages = Vec::new();
            for part in stream.chunks(size) {
                frames.push(part);
                while let Some(message) = frames.next() {
                    messages.push(message.to_vec());
                }
            }
            assert_eq!(messages, [&b"one"[..], b"", b"three"]);
            assert_eq!(frames.held(), 0);
        }
    }
}
