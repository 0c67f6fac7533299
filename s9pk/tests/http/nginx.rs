//! Debian's nginx on loopback, as a child of the test.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running nginx that serves a folder.
pub(crate) struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    /// Serves `folder` over plain HTTP.
    pub(crate) fn plain(folder: &Path) -> Self {
        Self::start(folder, "", "")
    }

    /// Serves `folder` over TLS, with `server.pem` and `server.key` in it.
    pub(crate) fn tls(folder: &Path) -> Self {
        let certificate = "ssl_certificate server.pem; ssl_certificate_key server.key;";
        Self::start(folder, " ssl", certificate)
    }

    fn start(folder: &Path, listen: &str, more: &str) -> Self {
        // A port that is free now may be taken in a moment: then another one.
        for _ in 0..ATTEMPTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let configuration = folder.join("nginx.conf");
            fs::write(&configuration, config(folder, port, listen, more)).unwrap();
            let mut child = Command::new(program())
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(&configuration)
                .arg("-e")
                .arg(folder.join("nginx.log"))
                .stdin(Stdio::null())
                .spawn()
                .expect("nginx (Debian package nginx-light) is installed");
            if is_up(&mut child, port) {
                return Self { child, port };
            }
        }
        let log = fs::read_to_string(folder.join("nginx.log")).unwrap_or_default();
        panic!("nginx does not start: {log}");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child and waits until it is gone.
pub(crate) fn end(child: &mut Child) {
    child.kill().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "a killed process does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_up(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            // If somebody else answers there, nginx has given up.
            Ok(_) => return child.try_wait().unwrap().is_none(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        assert!(Instant::now() < deadline, "nginx does not listen");
        thread::sleep(Duration::from_millis(20));
    }
}

fn program() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/nginx");
    if system.exists() {
        system
    } else {
        "nginx".into()
    }
}

fn config(folder: &Path, port: u16, listen: &str, more: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
           access_log off; sendfile on;\n\
           client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;\n\
           fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi;\n\
           scgi_temp_path {folder}/nginx-scgi;\n\
           server {{\n\
             listen 127.0.0.1:{port}{listen}; root {folder}; {more}\n\
             location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}\n\
             location /loop {{ return 302 /loop; }}\n\
             location /down/ {{ return 302 http://127.0.0.1:{port}/; }}\n\
             location /busy {{ return 503; }}\n\
             location /rangeless/ {{ max_ranges 0; alias {folder}/; }}\n\
           }}\n\
         }}\n"
    )
}

const ATTEMPTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);
