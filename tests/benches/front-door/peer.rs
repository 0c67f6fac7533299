//! A reverse proxy of hyper and tokio-rustls, on one thread: what one would write without a loop of
//! one's own.

use std::{cell::RefCell, convert::Infallible, net::Ipv4Addr, rc::Rc, sync::Arc};

use anyhow::Result;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, HOST, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsAcceptor;

use super::contender::Room;

/// Serves until it is ended.
pub(crate) fn run(room: &Room, port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(room, port))
}

async fn serve(room: &Room, port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    rustix::net::listen(&listener, 4096)?;
    let acceptor = TlsAcceptor::from(tls(room)?);
    let pool = Rc::new(Pool {
        socket: room.socket(),
        port: room.upstream_port(),
        waiting: RefCell::new(Vec::new()),
    });
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, pool) = (acceptor.clone(), Rc::clone(&pool));
        spawn_local(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let answer = service_fn(move |request| pass(Rc::clone(&pool), peer.ip(), request));
            let io = TokioIo::new(stream);
            if is_http2 {
                let builder = http2::Builder::new(Local);
                drop(builder.serve_connection(io, answer).await);
            } else {
                drop(http1::Builder::new().serve_connection(io, answer).await);
            }
        });
    }
}

fn tls(room: &Room) -> Result<Arc<ServerConfig>> {
    let identity = room.identity()?;
    let chain = identity.chain_der.into_iter().map(Into::into).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key_der));
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Connections to the upstream that wait for a next request.
struct Pool {
    socket: std::path::PathBuf,
    port: Option<u16>,
    waiting: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    async fn sender(&self) -> Result<SendRequest<Incoming>> {
        while let Some(sender) = { self.waiting.borrow_mut().pop() } {
            if sender.is_ready() {
                return Ok(sender);
            }
        }
        Ok(match self.port {
            Some(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                spawn_local(connection);
                sender
            }
            None => {
                let stream = UnixStream::connect(&self.socket).await?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                spawn_local(connection);
                sender
            }
        })
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn pass(
    pool: Rc<Pool>,
    peer: std::net::IpAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    forward(&mut request, peer);
    let answered = async {
        let mut sender = pool.sender().await?;
        let response = sender.send_request(request).await?;
        // It is fit for another request once this answer's body is through.
        spawn_local(async move {
            if sender.ready().await.is_ok() {
                pool.waiting.borrow_mut().push(sender);
            }
        });
        anyhow::Ok(response)
    };
    Ok(match answered.await {
        Ok(mut response) => {
            response.headers_mut().remove(CONNECTION);
            response.map(BodyExt::boxed)
        }
        Err(error) => {
            let text = Full::from(error.to_string()).map_err(|never: Infallible| match never {});
            let mut response = Response::new(BodyExt::boxed(text));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

/// The request as the upstream gets it, with the fields that the door adds.
fn forward(request: &mut Request<Incoming>, peer: std::net::IpAddr) {
    let authority = request
        .uri()
        .authority()
        .map(|name| name.as_str().to_owned());
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    *request.version_mut() = hyper::Version::HTTP_11;
    let fields = request.headers_mut();
    fields.remove(CONNECTION);
    let named = authority.and_then(|name| HeaderValue::try_from(name).ok());
    if let Some(name) = named {
        fields.insert(HOST, name);
    }
    let host = fields.get(HOST).cloned();
    let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
    let text = host.to_str().unwrap_or_default();
    let forwarded = format!("for={peer};host=\"{text}\";proto=https");
    for (name, value) in [
        ("forwarded", forwarded),
        ("x-forwarded-for", peer.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(name, value);
        }
    }
    fields.insert("x-forwarded-host", host);
    fields.insert("x-forwarded-proto", HeaderValue::from_static("https"));
}

/// Runs hyper's tasks on the one thread there is.
#[derive(Clone, Copy)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
