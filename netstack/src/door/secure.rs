//! TLS on one connection, with hardly a buffer of its own.
//!
//! rustls's usual connection keeps 4 KiB and more for every client, used or not. This one deciphers
//! and enciphers in the loop's scratch memory and keeps only what it must: the beginning of a record
//! of which more is to come, and records that the socket does not take yet.

use std::io;

use rustls::{
    HandshakeKind,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
    },
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
        let (mut used, mut is_last, mut is_done) = (0, false, false);
        while !is_done {
            let step = self.step(&mut bytes[used..], plain);
            used += step.used;
            is_last |= step.is_last;
            is_done = step.is_done;
            if let Err(error) = step.result {
                // What rustls has to say now is the alert; it must not read on.
                self.step(&mut bytes[used..], plain);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        self.keep(&bytes[used..])?;
        Ok(is_last)
    }

    /// Enciphers `plain` into `out`, which must have room for [`OVERHEAD`] more; how long it is.
    ///
    /// # Errors
    /// Nothing can be said any more.
    pub(super) fn encipher(&mut self, plain: &[u8], out: &mut [u8]) -> io::Result<usize> {
        self.speak(|traffic| traffic.encrypt(plain, out))
    }

    /// Owes the client the word that nothing more will be said.
    pub(super) fn say_goodbye(&mut self) {
        let mut alert = [0; OVERHEAD];
        if let Ok(length) = self.speak(|traffic| traffic.queue_close_notify(&mut alert)) {
            self.owed.push(&alert[..length]);
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

    /// One step through `bytes`.
    fn step(&mut self, bytes: &mut [u8], plain: &mut Buffer) -> Step {
        let status = self.connection.process_tls_records(bytes);
        let mut step = Step {
            used: status.discard,
            is_last: false,
            is_done: false,
            result: Ok(()),
        };
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            plain.push(record.payload);
                            step.used += record.discard;
                        }
                        Err(error) => step.result = Err(error),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.owed),
            // It is owed, and will be.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => step.is_last = true,
            Ok(_) => step.is_done = true,
            Err(error) => step.result = Err(error),
        }
        step
    }

    /// Has `say` say something. rustls is shown what it has seen of the next record, as ever.
    fn speak(
        &mut self,
        say: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let UnbufferedStatus { discard, state, .. } =
            self.connection.process_tls_records(&mut self.partial);
        let said = match state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                say(&mut traffic).map_err(io::Error::other)
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        self.partial.drain(..discard);
        said
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

/// What came of one step.
struct Step {
    /// How many bytes are done with.
    used: usize,
    /// The client has said its last word.
    is_last: bool,
    /// Nothing more can be done with the bytes there are.
    is_done: bool,
    result: Result<(), rustls::Error>,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
        RootCertStore,
        crypto::{
            cipher::{OutboundChunks, OutboundPlainMessage},
            ring,
        },
    };

    use super::*;
    use crate::{
        ca::Authority,
        door::{limits::SCRATCH, tls::Tls},
    };

    /// A client and the door's end, with nothing said yet.
    fn pair() -> (ClientConnection, Secure) {
        let now = std::time::SystemTime::now();
        let ca = Authority::create("otter", now).unwrap();
        let mut tls = Tls::throw_away().unwrap();
        let identity = ca.issue(&["otter.local".to_owned()], now).unwrap();
        tls.show(&identity).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(identity.chain_der[1].clone().into()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = "otter.local".try_into().unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        (client, tls.accept().unwrap())
    }

    /// Gives `bytes` in pieces, as the loop would.
    fn give(secure: &mut Secure, bytes: &[u8], size: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut scratch, mut plain) = (vec![0; SCRATCH], Buffer::default());
        let mut is_last = false;
        for piece in bytes.chunks(size) {
            let kept = secure.put_back(&mut scratch);
            let end = kept + piece.len();
            scratch[kept..end].copy_from_slice(piece);
            is_last |= secure.take(&mut scratch[..end], &mut plain)?;
        }
        Ok((plain.bytes().to_vec(), is_last))
    }

    /// Has both shake hands, the client's bytes coming in pieces.
    fn shake(client: &mut ClientConnection, secure: &mut Secure, size: usize) {
        while client.is_handshaking() || secure.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            give(secure, &bytes, size).unwrap();
            tell(client, secure);
        }
    }

    /// Gives the client what is owed to it.
    fn tell(client: &mut ClientConnection, secure: &mut Secure) {
        let owed = secure.owed();
        client.read_tls(&mut owed.bytes()).unwrap();
        owed.clear();
        client.process_new_packets().unwrap();
    }

    #[test]
    fn what_is_said_is_the_same_in_any_pieces() {
        for size in [1, 7, 1000, 16 * 1024, 60_000] {
            let (mut client, mut secure) = pair();
            shake(&mut client, &mut secure, size);
            let said: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
            let mut bytes = Vec::new();
            io::Write::write_all(&mut client.writer(), &said).unwrap();
            client.send_close_notify();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let (plain, is_last) = give(&mut secure, &bytes, size).unwrap();
            assert!(plain == said && is_last, "pieces of {size}");
            secure.relax();
            assert_eq!(secure.held(), 0, "nothing is kept");
        }
    }

    #[test]
    fn answers_are_enciphered_and_end_with_a_goodbye() {
        let (mut client, mut secure) = pair();
        shake(&mut client, &mut secure, 4096);
        let answer = vec![b'x'; super::super::limits::READ];
        let mut out = vec![0; SCRATCH];
        let length = secure.encipher(&answer, &mut out).unwrap();
        assert!(length <= answer.len() + OVERHEAD);
        let (mut bytes, mut heard) = (&out[..length], Vec::new());
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            let state = client.process_new_packets().unwrap();
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            io::Read::read_exact(&mut client.reader(), &mut part).unwrap();
            heard.extend(part);
        }
        assert_eq!(heard, answer);
        secure.say_goodbye();
        let owed = secure.owed();
        client.read_tls(&mut owed.bytes()).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }

    #[test]
    fn nonsense_is_answered_with_an_alert_and_is_not_kept() {
        let (mut client, mut secure) = pair();
        shake(&mut client, &mut secure, 4096);
        assert!(
            give(&mut secure, &[23, 3, 3, 0, 17, 0], 6).is_ok(),
            "a beginning"
        );
        assert!(give(&mut secure, &[0; 16], 16).is_err());
        let mut owed = secure.owed().bytes();
        client.read_tls(&mut owed).unwrap();
        let told = client.process_new_packets();
        assert!(
            matches!(told, Err(rustls::Error::AlertReceived(_))),
            "{told:?}"
        );

        let (_, mut endless) = pair();
        let hello = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 16_379]].concat();
        let more = [&[22, 3, 1, 0x40, 0][..], &[0; 16_384]].concat();
        assert!(give(&mut endless, &hello, 5000).is_ok());
        assert!(give(&mut endless, &more, 5000).is_err());
        assert!(endless.held() <= MAX_PARTIAL + 8192);
    }

    /// rustls remembers where in its input such a message began, and must be shown that again.
    #[test]
    fn half_a_message_of_the_handshake_keeps_nobody_from_answering() {
        let (mut client, mut secure) = pair();
        shake(&mut client, &mut secure, 4096);
        let (number, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("another cipher was agreed on");
        };
        let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256
            .tls13()
            .unwrap();
        let key_update = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(&[24, 0]),
        };
        let mut cipher = suite.aead_alg.encrypter(key, iv);
        let record = cipher.encrypt(key_update, number).unwrap().encode();
        give(&mut secure, &record, 3).unwrap();
        assert!(secure.held() > 0, "it waits for the other half");
        let mut out = vec![0; SCRATCH];
        secure.encipher(b"answer", &mut out).unwrap();
        secure.say_goodbye();
        assert!(secure.owes());
    }
}
