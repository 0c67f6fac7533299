//! One of the four at work: how it is started, and what it uses.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use netstack::{ca::Authority, door::Identity};

use super::{CONTENDER, LOAD, on_processor};

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Door,
    Nginx,
    Haproxy,
    Hyper,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Door, Self::Nginx, Self::Haproxy, Self::Hyper];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Hyper => "hyper",
        }
    }
}

/// The folder of a run: certificates, configurations, the upstream's socket.
pub(crate) struct Room(PathBuf);

impl Room {
    /// The folder at `path`, furnished by another process.
    pub(crate) fn at(path: &str) -> Self {
        Self(path.into())
    }

    /// Puts a new certificate into `folder`, and notes where the upstream is.
    pub(crate) fn furnish(folder: &Path, tcp: bool) -> Result<Self> {
        let now = SystemTime::now();
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let identity = Authority::create("bench", now)?.issue(&names, now)?;
        let mut pem = String::new();
        for (nth, certificate) in identity.chain_der.iter().enumerate() {
            fs::write(folder.join(format!("{nth}.der")), certificate)?;
            pem += &armour("CERTIFICATE", certificate);
        }
        let key = armour("PRIVATE KEY", &identity.key_der);
        fs::write(folder.join("key.der"), &identity.key_der)?;
        fs::write(folder.join("chain.pem"), &pem)?;
        fs::write(folder.join("key.pem"), &key)?;
        fs::write(folder.join("both.pem"), pem + &key)?;
        if tcp {
            fs::write(folder.join("port"), free_port()?.to_string())?;
        }
        Ok(Self(folder.to_owned()))
    }

    /// The certificate and its key.
    pub(crate) fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            chain_der: vec![fs::read(self.file("0.der"))?, fs::read(self.file("1.der"))?],
            key_der: fs::read(self.file("key.der"))?,
        })
    }

    /// The upstream's Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.file("upstream")
    }

    /// The upstream's TCP port, if it has one.
    pub(crate) fn upstream_port(&self) -> Option<u16> {
        fs::read_to_string(self.file("port")).ok()?.parse().ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

/// A contender at work; it ends with this.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Contender {
    /// Starts it, and waits until it takes connections.
    pub(crate) fn start(kind: Kind, room: &Room) -> Result<Self> {
        let port = free_port()?;
        let mut command = match kind {
            Kind::Door => ourselves(&["be-door", &room.path(), &port.to_string()])?,
            Kind::Hyper => ourselves(&["be-hyper", &room.path(), &port.to_string()])?,
            Kind::Nginx => {
                fs::write(room.file("nginx.conf"), nginx(room, port))?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(&room.0).arg("-c").arg("nginx.conf");
                command
            }
            Kind::Haproxy => {
                fs::write(room.file("haproxy.cfg"), haproxy(room, port))?;
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(room.file("haproxy.cfg"));
                command
            }
        };
        // Access logs of the door go where a log would.
        let log = fs::File::create(room.file("log"))?;
        command.stdout(Stdio::null()).stderr(log);
        on_processor(CONTENDER)?;
        let started = command.spawn();
        on_processor(LOAD)?;
        let process = Process(started.with_context(|| format!("{kind:?} does not start"))?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let log = fs::read_to_string(room.file("log")).unwrap_or_default();
            ensure!(Instant::now() < until, "{kind:?} does not listen: {log}");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            kind,
            address,
            process,
        })
    }

    /// The processor time that it has used.
    pub(crate) fn used(&self) -> Result<Duration> {
        let mut used = 0;
        for thread in fs::read_dir(self.process.file("task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let word = text.split(' ').next().unwrap_or_default();
            used += word
                .parse::<u64>()
                .context("schedstat begins with a number")?;
        }
        Ok(Duration::from_nanos(used))
    }

    /// The memory that it has, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(self.process.file("statm"))?;
        let word = text.split(' ').nth(1).unwrap_or_default();
        let pages: u64 = word.parse().context("statm has numbers")?;
        Ok(pages * rustix::param::page_size() as u64)
    }
}

/// The upstream at work, on the load's processor.
pub(crate) fn upstream(room: &Room) -> Result<impl Drop> {
    let process = Process(ourselves(&["be-upstream", &room.path()])?.spawn()?);
    let until = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(room.socket()).is_err() {
        ensure!(Instant::now() < until, "the upstream does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(process)
}

struct Process(Child);

impl Process {
    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let until = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn ourselves(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn armour(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// As fast as its manual allows, and forwarding what the door forwards.
fn nginx(room: &Room, port: u16) -> String {
    let upstream = match room.upstream_port() {
        Some(port) => format!("127.0.0.1:{port}"),
        None => format!("unix:{}", room.socket().display()),
    };
    format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 16000; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s; proxy_max_temp_file_size 0; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; ssl_certificate chain.pem;
  ssl_certificate_key key.pem; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
  upstream place {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    location / {{
      proxy_pass http://place; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header Forwarded \"for=$remote_addr;host=\\\"$http_host\\\";proto=https\";
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"
    )
}

fn haproxy(room: &Room, port: u16) -> String {
    let upstream = match room.upstream_port() {
        Some(port) => format!("127.0.0.1:{port}"),
        None => format!("unix@{}", room.socket().display()),
    };
    let both = room.file("both.pem");
    format!(
        "global
  nbthread 1
  maxconn 8000
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-bind-curves X25519
defaults
  mode http
  timeout client 75s
  timeout server 75s
  timeout connect 10s
  timeout http-keep-alive 75s
  http-reuse always
frontend front
  bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1 backlog 4096
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header Forwarded for=%[src];proto=https
  default_backend place
backend place
  server place {upstream} pool-max-conn 256
",
        both.display()
    )
}

/// What has not come by then does not.
const PATIENCE: Duration = Duration::from_secs(30);
