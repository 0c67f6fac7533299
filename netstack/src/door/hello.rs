//! What a TLS client asks for before anything is deciphered: the name in its ClientHello.

use rustls::server::Acceptor;

/// The first bytes of a client, until it is known where they go.
#[derive(Debug, Default)]
pub(super) struct Hello {
    bytes: Vec<u8>,
}

/// What the bytes so far say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The name asked for, if one was.
    For(Option<String>),
    /// More must come.
    More,
    /// Nothing that could be understood: whoever answers says so.
    Nonsense,
}

impl Hello {
    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Looks at what there is.
    pub(super) fn asked(&self) -> Asked {
        let (mut acceptor, mut rest) = (Acceptor::default(), self.bytes.as_slice());
        while !rest.is_empty() {
            if acceptor.read_tls(&mut rest).is_err() {
                return Asked::Nonsense;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Asked::For(name);
                }
                Ok(None) => {}
                Err(_) => return Asked::Nonsense,
            }
        }
        if self.bytes.len() >= MAX_HELLO {
            return Asked::Nonsense;
        }
        Asked::More
    }

    /// The memory it holds, in bytes.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes, for whoever answers.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The largest ClientHello that anyone sends is a few kilobytes, with post-quantum keys.
const MAX_HELLO: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

    use super::*;

    fn hello_for(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_known_with_the_last_byte_and_not_before() {
        let bytes = hello_for("mail.otter.local");
        let mut hello = Hello::default();
        for (at, byte) in bytes.iter().enumerate() {
            hello.push(&[*byte]);
            let expected = match at + 1 == bytes.len() {
                true => Asked::For(Some("mail.otter.local".into())),
                false => Asked::More,
            };
            assert_eq!(hello.asked(), expected, "byte {at}");
        }
        assert_eq!(hello.into_bytes(), bytes);
    }

    #[test]
    fn without_a_name_there_is_none_and_nonsense_is_nonsense() {
        let mut hello = Hello::default();
        hello.push(&hello_for("192.0.2.1"));
        assert_eq!(hello.asked(), Asked::For(None));
        let mut nonsense = Hello::default();
        nonsense.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(nonsense.asked(), Asked::Nonsense);
        let mut endless = Hello::default();
        endless.push(&[&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 20_000]].concat());
        assert_eq!(endless.asked(), Asked::Nonsense);
    }
}
