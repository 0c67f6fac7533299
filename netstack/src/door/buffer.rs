//! A byte queue: bytes are pushed at the end and consumed at the front, without moving the rest.

/// Bytes on their way from one side to the other.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Appends `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// Appends what `write` puts into `room` bytes: as many as it says.
    pub(super) fn push_with(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let end = self.tail().len();
        self.bytes.resize(end + room, 0);
        let count = write(&mut self.bytes[end..]).min(room);
        self.bytes.truncate(end + count);
    }

    /// The end of the queue, to append to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.clear();
        }
        &mut self.bytes
    }

    /// Drops the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.clear();
        } else if self.start > COMPACT_FROM && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Moves the first `count` bytes to the end of `to`; the whole queue goes without a copy.
    pub(super) fn pass(&mut self, count: usize, to: &mut Self) {
        if count == self.len() && to.is_empty() {
            to.clear();
            std::mem::swap(self, to);
        } else {
            to.push(&self.bytes()[..count]);
            self.consume(count);
        }
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Gives the memory back when there is nothing to keep: an idle connection costs none.
    pub(super) fn relax(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// What is queued.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The memory it takes, in bytes.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// How much is queued.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Below this, moving the rest to the front costs more calls than it saves memory.
const COMPACT_FROM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let (mut queue, mut expected) = (Buffer::default(), Vec::new());
        for round in 0..200_u32 {
            let piece: Vec<u8> = (0..round * 7).map(|i| (i ^ round) as u8).collect();
            queue.push(&piece);
            expected.extend_from_slice(&piece);
            let out = queue.len().min(round as usize * 6);
            assert_eq!(queue.bytes()[..out], expected[..out]);
            queue.consume(out);
            expected.drain(..out);
        }
        assert_eq!(queue.bytes(), expected);
    }

    #[test]
    fn passing_keeps_the_rest() {
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        from.push(b"abcdef");
        from.pass(2, &mut to);
        from.pass(4, &mut to);
        assert_eq!((from.len(), to.bytes()), (0, &b"abcdef"[..]));
        to.pass(6, &mut from);
        assert_eq!((to.len(), from.bytes()), (0, &b"abcdef"[..]));
    }
}
