//! TLS on one connection, with hardly a buffer of its own.
//!
//! rustls's usual connection keeps 4 KiB and more for every client, used or not. This one deciphers
//! and enciphers in the loop's scratch memory and keeps only what it must: the beginning of a record
//! of which more is to come, and records that the socket does not take yet.

use std::io;

use rustls::{
    HandshakeKind,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};

use super::{buffer::Buffer, tls};

/// A client's TLS.
pub(super) struct Secure {
    connection: UnbufferedServerConnection,
    /// What came of a record that is not whole.
    partial: Vec<u8>,
    /// Records that are to be written before all else.
    owed: Buffer,
}

impl Secure {
    /// TLS of which nothing was said yet.
    pub(super) fn new(connection: UnbufferedServerConnection) -> Self {
        Self {
            connection,
            partial: Vec::new(),
            owed: Buffer::default(),
        }
    }

    /// Puts what came of a record at the front of `scratch`, where the rest is to follow; its length.
    pub(super) fn put_back(&self, scratch: &mut [u8]) -> usize {
        scratch[..self.partial.len()].copy_from_slice(&self.partial);
        self.partial.len()
    }

    /// Takes `bytes`: what [`Self::put_back`] gave and what was read behind it, deciphered on the
    /// spot. What they say is appended to `plain`; true if that is the client's last word.
    ///
    /// # Errors
    /// The connection is of no more use. An alert that says why is among what is owed.
    pub(super) fn take(&mut self, bytes: &mut [u8], plain: &mut Buffer) -> io::Result<bool> {
        match self.process(bytes, plain) {
            Ok((used, is_last)) => {
                self.keep(&bytes[used..])?;
                Ok(is_last)
            }
            Err(error) => {
                // What is left to say now is the alert.
                let _ = self.process(&mut [], plain);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Enciphers `plain` into `out`, which must have room for [`OVERHEAD`] more; how long it is.
    pub(super) fn encipher(&mut self, plain: &[u8], out: &mut [u8]) -> io::Result<usize> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        match state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                traffic.encrypt(plain, out).map_err(io::Error::other)
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Owes the client the word that nothing more will be said.
    pub(super) fn say_goodbye(&mut self) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let mut alert = [0; OVERHEAD];
            if let Ok(length) = traffic.queue_close_notify(&mut alert) {
                self.owed.push(&alert[..length]);
            }
        }
    }

    /// Records that are to be written before all else.
    pub(super) fn owed(&mut self) -> &mut Buffer {
        &mut self.owed
    }

    /// Whether some are.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client came back with a ticket.
    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether HTTP/2 was agreed on.
    pub(super) fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(tls::HTTP2)
    }

    /// Gives back memory that holds nothing.
    pub(super) fn relax(&mut self) {
        self.owed.relax();
    }

    /// The memory it holds for bytes on their way.
    pub(super) fn held(&self) -> usize {
        self.partial.capacity() + self.owed.held()
    }

    /// Goes as far as `bytes` allow; how many of them are done with, and whether the client has said
    /// its last word.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Buffer,
    ) -> Result<(usize, bool), rustls::Error> {
        let (mut used, mut is_last) = (0, false);
        loop {
            let status = self.connection.process_tls_records(&mut bytes[used..]);
            let (mut discard, mut is_done) = (status.discard, false);
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.push(record.payload);
                        discard += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.owed),
                // It is owed, and will be.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => is_last = true,
                _ => is_done = true,
            }
            used += discard;
            if is_done {
                return Ok((used, is_last));
            }
        }
    }

    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.len() > MAX_PARTIAL {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }
}

/// Appends a record of the handshake to `owed`.
fn encode<D>(mut data: EncodeTlsData<'_, D>, owed: &mut Buffer) {
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return;
    };
    owed.push_with(size.required_size, |room| data.encode(room).unwrap_or(0));
}

/// The longest beginning of a record, or of a message of the handshake in several: more than the
/// largest record (RFC 8446, 5.2) and the largest ClientHello that anyone sends.
pub(super) const MAX_PARTIAL: usize = 20 * 1024;
/// What enciphering adds to 64 KiB at the most: 5 records' heads, nonces and tags, and a new key.
pub(super) const OVERHEAD: usize = 1024;
