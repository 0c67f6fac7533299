//! A client: what it trusts, how patient it is, and one request with its redirections.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::http::{
    address::Url,
    cancel::Cancel,
    connection::{Connection, Patience},
    error::{self, FetchError},
    range::{self, Answer, Asked},
    request,
    response::{Head, Receiver},
};

/// How to fetch: whom to trust, and how long to wait.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose certificates are trusted.
    pub roots: RootCertStore,
    /// For a connection, name look-up included.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub silence: Duration,
    /// How often in a row a server may fail before the next is asked, and a round over all servers
    /// before it is given up.
    pub tries: u32,
    /// The first pause before a failed server is asked again; it doubles up to [`LONGEST_PAUSE`].
    pub pause: Duration,
    /// Ends the transfer from another thread.
    pub cancel: Cancel,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roots: web_roots(),
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            tries: 8,
            pause: Duration::from_millis(250),
            cancel: Cancel::new(),
        }
    }
}

/// The certificate authorities that browsers trust.
pub fn web_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

/// The certificate authorities in a PEM text, and no others.
///
/// # Errors
/// When it holds none, or one that is damaged.
pub fn pem_roots(pem: &[u8]) -> Result<RootCertStore, FetchError> {
    let refuse = |error: &dyn std::fmt::Display| FetchError::Roots(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refuse(&error))?;
        roots.add(certificate).map_err(|error| refuse(&error))?;
    }
    if roots.is_empty() {
        return Err(refuse(&"there is no certificate in the file"));
    }
    Ok(roots)
}

/// Sends requests, one at a time, over a connection that is kept.
#[derive(Debug)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    patience: Patience,
    idle: Option<Connection>,
}

/// An answer whose body is to be read.
#[derive(Debug)]
pub(crate) struct Exchange {
    connection: Connection,
    receiver: Receiver,
    pub(crate) head: Head,
    /// Where it came from, after all redirections.
    pub(crate) url: Url,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, FetchError> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Roots(error.to_string()))?
            .with_root_certificates(settings.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            patience: Patience {
                connect: settings.connect,
                silence: settings.silence,
                cancel: settings.cancel.clone(),
            },
            idle: None,
        })
    }

    /// Asks for a range, follows redirections, and says what the answer is: a part, the whole, or
    /// another file than before.
    ///
    /// # Errors
    /// When the server can't be reached, refuses, or answers something else.
    pub(crate) fn get(
        &mut self,
        url: &Url,
        asked: &Asked,
    ) -> Result<(Exchange, Answer), FetchError> {
        let mut here = url.clone();
        for _ in 0..=REDIRECTS {
            let exchange = self.ask(&here, asked)?;
            let answer = range::judge(&exchange.head, asked);
            match answer.map_err(|violation| FetchError::Answer {
                url: here.to_string(),
                violation,
            })? {
                Answer::Elsewhere { location } => here = here.join(&location)?,
                Answer::Refused {
                    status,
                    temporary,
                    retry_after: after,
                } => {
                    let (url, meaning) = (here.to_string(), error::meaning(status));
                    return Err(FetchError::Refused {
                        url,
                        status,
                        meaning,
                        temporary,
                        after,
                    });
                }
                answer => return Ok((exchange, answer)),
            }
        }
        let url = url.to_string();
        Err(FetchError::Redirects { url })
    }

    /// Keeps the connection for the next request, if it can be used again.
    pub(crate) fn keep(&mut self, exchange: Exchange) {
        if exchange.head.keep_alive && exchange.connection.is_clean() {
            self.idle = Some(exchange.connection);
        }
    }

    fn ask(&mut self, url: &Url, asked: &Asked) -> Result<Exchange, FetchError> {
        let version = asked.version.as_ref();
        let if_range = version.and_then(|version| version.if_range());
        let request = request::get(url, &asked.range, if_range);
        let idle = self.idle.take().filter(|idle| idle.leads_to(url));
        let reused = idle.map(|mut connection| {
            let answer = connection.ask(&request);
            (connection, answer)
        });
        let (connection, (receiver, head)) = match reused {
            Some((connection, Ok(answer))) => (connection, answer),
            Some((_, Err(FetchError::Cancelled))) => return Err(FetchError::Cancelled),
            // A server may close an idle connection at any time: that is no failure.
            Some((_, Err(_))) | None => {
                let mut connection = Connection::open(url, &self.tls, &self.patience)?;
                let answer = connection.ask(&request)?;
                (connection, answer)
            }
        };
        Ok(Exchange {
            connection,
            receiver,
            head,
            url: url.clone(),
        })
    }
}

impl Exchange {
    /// The next bytes of the body, at most `most`; none when it is complete.
    pub(crate) fn read(&mut self, most: usize) -> Result<&[u8], FetchError> {
        self.connection.body(&mut self.receiver, most)
    }
}

/// Redirections followed, at most: a mirror network takes two or three.
const REDIRECTS: usize = 5;
/// The longest pause before a failed server is asked again.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(8);
