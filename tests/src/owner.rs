//! The box's owner at the emergency page.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use boards::web::{self, Response, Trust};

/// An owner who was let in.
#[derive(Debug)]
pub struct Owner<'t> {
    port: u16,
    trust: &'t Trust,
    cookie: String,
}

impl<'t> Owner<'t> {
    /// Says `code` at the door on `port` of localhost.
    ///
    /// # Errors
    /// When that does not let in.
    pub fn enter(port: u16, trust: &'t Trust, code: &str) -> Result<Self> {
        let answer = knock(port, trust, code)?;
        ensure!(answer.status == 303, "{}: {}", answer.status, answer.text());
        let cookie = answer.header("set-cookie").context("no cookie")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self {
            port,
            trust,
            cookie,
        })
    }

    /// What owners see.
    ///
    /// # Errors
    /// Without a whole answer.
    pub fn page(&self) -> Result<Response> {
        let text = format!(
            "GET /emergency/owner HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Cookie: {}\r\n\r\n",
            self.cookie
        );
        web::say(self.port, "localhost", &text, self.trust, PATIENCE)
    }

    /// Has `what` done: `restart-manager`, `reboot` or `out`.
    ///
    /// # Errors
    /// When the page has no form, or the answer is another than that it is done.
    pub fn act(&self, what: &str) -> Result<()> {
        let page = self.page()?.text();
        let token = page.split_once("name=token value=").map(|(_, rest)| rest);
        let token = token.and_then(|rest| rest.split('>').next());
        let body = format!("token={}", token.context("the page has no form")?);
        let answer = post(self.port, self.trust, what, &self.cookie, &body)?;
        ensure!(answer.status < 400, "{}: {}", answer.status, answer.text());
        Ok(())
    }
}

/// What is answered to `code`.
///
/// # Errors
/// Without a whole answer.
pub fn knock(port: u16, trust: &Trust, code: &str) -> Result<Response> {
    post(port, trust, "in", "a=b", &format!("code={code}"))
}

/// The code on a line of the console: two groups of five.
pub fn code_in(line: &str) -> Option<&str> {
    let line = line.trim();
    let (first, second) = line.split_once('-')?;
    let is_group =
        |group: &str| group.len() == 5 && group.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_group(first) && is_group(second)).then_some(line)
}

fn post(port: u16, trust: &Trust, what: &str, cookie: &str, body: &str) -> Result<Response> {
    let text = format!(
        "POST /emergency/{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Cookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    web::say(port, "localhost", &text, trust, PATIENCE)
}

/// A look at a code takes a helper, which on a loaded machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
