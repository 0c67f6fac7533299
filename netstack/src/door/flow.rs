//! The bytes of one exchange, on their way between a client and the place that answers.

use std::time::Instant;

use super::buffer::Buffer;

/// Both sides of an exchange.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) client: Side,
    pub(super) up: Side,
    /// The connection to the place, by its key.
    pub(super) link: Option<usize>,
    /// Field sections of the answer for an HTTP/2 client, in their order; HTTP/1.1 has its heads
    /// among the other bytes.
    pub(super) sections: Vec<Vec<u8>>,
}

/// What came from one side and what is to go there.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) input: Buffer,
    pub(super) output: Buffer,
    /// Nothing more will come.
    pub(super) eof: bool,
    /// It broke off, so what came may not be all.
    pub(super) reset: bool,
    /// When bytes last moved, so that it can be told who keeps whom waiting.
    pub(super) moved: Instant,
}

impl Flow {
    /// A flow in which nothing has moved yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            client: Side::new(now),
            up: Side::new(now),
            link: None,
            sections: Vec::new(),
        }
    }

    /// A new connection to the place: what was of the former one is dropped.
    pub(super) fn begin_up(&mut self, now: Instant) {
        self.up.input.clear();
        self.up.output.clear();
        self.up.eof = false;
        self.up.reset = false;
        self.up.moved = now;
    }

    /// Gives back memory that holds nothing.
    pub(super) fn relax(&mut self) {
        self.client.relax();
        self.up.relax();
    }

    /// The memory it holds, in bytes.
    pub(super) fn held(&self) -> usize {
        let sections: usize = self.sections.iter().map(Vec::capacity).sum();
        self.client.held() + self.up.held() + sections
    }
}

impl Side {
    /// A side on which nothing has moved yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            input: Buffer::default(),
            output: Buffer::default(),
            eof: false,
            reset: false,
            moved: now,
        }
    }

    /// Gives back memory that holds nothing.
    pub(super) fn relax(&mut self) {
        self.input.relax();
        self.output.relax();
    }

    /// The memory it holds, in bytes.
    pub(super) fn held(&self) -> usize {
        self.input.held() + self.output.held()
    }
}
