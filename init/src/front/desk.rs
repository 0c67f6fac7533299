//! The owner at the emergency page: where the door passes on what is below `/emergency/` and `/net/`.
//!
//! It knows no secret. What was typed goes to PID 1, which has a helper look at it and gives a grant;
//! a browser that was let in holds a session whose grant is kept here, in memory alone. It needs
//! neither manager nor disk. The door has read each request's head strictly and written it anew.
//!
//! | module | concept |
//! |---|---|
//! | `asking` | questions to PID 1 and their answers |
//! | `change` | a change of the network, kept by whoever reaches the box after it |
//! | `message` | a request of the door's, and an answer to it |
//! | `session` | who was let in, in which browser |
//! | `page` | what owners see |

mod asking;
mod change;
mod message;
mod page;
mod session;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use supervise::{
    control::{Act, Event, Locked, Secret},
    status::BoxStatus,
};

use self::{
    asking::Asking,
    message::{Answer, Request},
    session::{Id, Sessions},
};

/// Lets owners in.
#[derive(Debug)]
pub(super) struct Desk {
    asking: Asking,
    sessions: Mutex<Sessions>,
    known: Mutex<Option<(BoxStatus, Instant)>>,
    /// Requests under way, by sender.
    busy: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Desk {
    /// One that asks PID 1 on `control`.
    pub(super) fn new(control: Arc<OwnedFd>) -> Self {
        Self {
            asking: Asking::new(control),
            sessions: Mutex::default(),
            known: Mutex::default(),
            busy: Mutex::default(),
        }
    }

    /// Hears what PID 1 says.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::Status(status) = event {
            *locked(&self.known) = Some((*status.clone(), Instant::now()));
        }
        self.asking.hear(event);
    }

    /// Answers the door on `listener`, from a thread of its own, for ever.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn open(self: Arc<Self>, listener: OwnedFd) -> Result<(), String> {
        rustix::io::ioctl_fionbio(&listener, false).map_err(|e| e.to_string())?;
        let listener = UnixListener::from(listener);
        thread("owners", move || {
            let open = Arc::new(());
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    std::thread::sleep(AFTER_ERROR);
                    continue;
                };
                if Arc::strong_count(&open) > MOST_OPEN {
                    continue;
                }
                let (desk, open) = (self.clone(), open.clone());
                let _ = thread("owner", move || {
                    desk.serve(stream);
                    drop(open);
                });
            }
        })
    }

    fn serve(&self, mut stream: UnixStream) {
        let answer = match Request::read(&mut stream, Instant::now() + TO_READ) {
            Ok(request) => self.count(&request),
            Err(answer) => answer,
        };
        answer.write(&mut stream, TO_WRITE);
    }

    /// No address keeps the others waiting.
    fn count(&self, request: &Request) -> Answer {
        {
            let mut busy = locked(&self.busy);
            let own = busy.entry(request.from).or_default();
            if *own >= MOST_OF_ONE {
                return page::trouble(503, "Too many requests at once. Try again in a moment.");
            }
            *own += 1;
        }
        let answer = self.answer(request);
        let mut busy = locked(&self.busy);
        if let Some(own) = busy.get_mut(&request.from) {
            *own -= 1;
            if *own == 0 {
                busy.remove(&request.from);
            }
        }
        answer
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(path) = request.path.strip_prefix(change::PATHS) {
            return self.answer_change(request, path);
        }
        let now = Instant::now();
        let path = request.path.strip_prefix("/emergency/").unwrap_or_default();
        match (request.method.as_str(), path) {
            ("GET", "owner") => self.show(request, now),
            ("POST", _) if request.is_foreign => {
                page::trouble(403, "This was asked by another site’s page.")
            }
            ("POST", "in") => self.let_in(request, now),
            ("POST", "out") => self.act(request, Act::Leave, now),
            ("POST", "restart-manager") => self.act(request, Act::RestartManager, now),
            ("POST", "reboot") => self.act(request, Act::Reboot, now),
            (_, "in" | "out" | "owner" | "restart-manager" | "reboot") => {
                page::trouble(405, "This page is not to be had in that way.")
            }
            _ => page::trouble(404, "There is no such page."),
        }
    }

    fn show(&self, request: &Request, now: Instant) -> Answer {
        let token = request
            .session()
            .and_then(|id| locked(&self.sessions).token(id, now));
        match (token, &*locked(&self.known)) {
            (None, _) => Answer::see_other("/emergency"),
            (Some(_), None) => page::trouble(503, "Nothing is known of the server yet."),
            (Some(token), Some((status, at))) => {
                let age = now.saturating_duration_since(*at);
                Answer::html(200, page::owners(status, age, &token))
            }
        }
    }

    fn let_in(&self, request: &Request, now: Instant) -> Answer {
        let Some(offered) = request.field("code") else {
            return page::trouble(400, "There was no code.");
        };
        match self.asking.unlock(request.from, Secret(offered)) {
            Ok(grant) => match locked(&self.sessions).open(grant, now) {
                Ok(id) => Answer::see_other("/emergency/owner").with("Set-Cookie", id.cookie()),
                Err(why) => page::trouble(503, &why),
            },
            Err(why) => {
                let status = match why {
                    Locked::Busy | Locked::Failed(_) => 503,
                    Locked::Throttled { .. } => 429,
                    Locked::Wrong => 403,
                };
                let answer = page::trouble(status, &why.to_string());
                match why {
                    Locked::Throttled { wait_s } => answer.with("Retry-After", wait_s.to_string()),
                    Locked::Busy | Locked::Failed(_) | Locked::Wrong => answer,
                }
            }
        }
    }

    fn act(&self, request: &Request, act: Act, now: Instant) -> Answer {
        let session = request.session().zip(request.field("token"));
        let grant = session.and_then(|(id, token)| {
            let mut sessions = locked(&self.sessions);
            let grant = sessions.spend(id, &token, now)?;
            if act == Act::Leave {
                sessions.close(id);
            }
            Some(grant)
        });
        let Some(grant) = grant else {
            return page::trouble(403, "This form was used already, or is too old.");
        };
        match self.asking.act(grant, act) {
            Err(why) => page::trouble(503, &format!("It could not be done: {why}.")),
            Ok(()) if act == Act::Leave => {
                Answer::see_other("/emergency").with("Set-Cookie", Id::no_cookie())
            }
            Ok(()) => Answer::html(200, page::done(act)),
        }
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    let spawned = builder.spawn(run);
    spawned
        .map(drop)
        .map_err(|e| format!("no thread for owners: {e}"))
}

/// What is behind them is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests at once, of all and of one address: owners are few.
const MOST_OPEN: usize = 64;
const MOST_OF_ONE: usize = 4;
/// The door passes a request on whole, but for a body that its client is slow to send.
const TO_READ: Duration = Duration::from_secs(10);
const TO_WRITE: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::fd::AsFd as _,
    };

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use supervise::{
        control::{self, Grant},
        network::NotConfirmed,
    };

    use super::*;

    /// A desk, and the end of its control socket that is PID 1's.
    fn desk() -> (Arc<Desk>, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let desk = Arc::new(Desk::new(Arc::new(ours)));
        desk.hear(&Event::Status(Box::new(BoxStatus {
            hostname: "otter".into(),
            log: vec!["manager: a line of <the> log".into()],
            ..BoxStatus::default()
        })));
        (desk, theirs)
    }

    /// PID 1, which lets "right" in, and says what it was asked to do.
    fn pid1(desk: &Arc<Desk>, socket: OwnedFd) -> std::sync::mpsc::Receiver<Act> {
        let (done, all) = std::sync::mpsc::channel();
        let desk = desk.clone();
        std::thread::spawn(move || {
            while let Ok((request, _)) = control::receive::<control::Request>(socket.as_fd()) {
                match request {
                    control::Request::Unlock { id, offered, .. } => {
                        let result = match offered.0.as_str() {
                            "right &=" => Ok(Grant([1; 16])),
                            "again" => Err(Locked::Throttled { wait_s: 9 }),
                            _ => Err(Locked::Wrong),
                        };
                        desk.hear(&Event::Unlocked { id, result });
                    }
                    control::Request::Act { id, grant, act } => {
                        assert_eq!(grant, Grant([1; 16]));
                        done.send(act).unwrap();
                        desk.hear(&Event::Acted { id, result: Ok(()) });
                    }
                    control::Request::ConfirmNetwork { id, from, token } => {
                        assert_eq!(from, Some([192, 0, 2, 7].into()));
                        let result = match token.0.as_bytes()[0] {
                            b'a' => Ok(true),
                            b'b' => Err(NotConfirmed::Over("It is too late.".to_owned())),
                            _ => Err(NotConfirmed::Throttled { wait_s: 9 }),
                        };
                        desk.hear(&Event::NetworkConfirmed { id, result });
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        all
    }

    fn ask(desk: &Desk, request: &str) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(request.as_bytes()).unwrap();
        desk.serve(theirs);
        let mut answer = String::new();
        ours.read_to_string(&mut answer).unwrap();
        answer
    }

    fn post(desk: &Desk, path: &str, fields: &str, body: &str) -> String {
        let length = body.len();
        ask(
            desk,
            &format!(
                "POST /emergency/{path} HTTP/1.1\r\nHost: otter.local\r\n{fields}\
                 Content-Length: {length}\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n{body}"
            ),
        )
    }

    fn status(answer: &str) -> &str {
        &answer[9..12]
    }

    /// The text between two others.
    fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }

    #[test]
    fn an_owner_gets_in_sees_the_log_and_restarts_the_manager_once() {
        let (desk, socket) = desk();
        let acts = pid1(&desk, socket);
        let answer = post(&desk, "in", "", "code=right+%26%3d");
        assert_eq!(status(&answer), "303", "{answer}");
        assert!(answer.contains("Location: /emergency/owner\r\n"));
        let cookie = between(&answer, "Set-Cookie: ", "\r\n").to_owned();
        for part in [
            "__Host-",
            "Secure",
            "HttpOnly",
            "SameSite=Strict",
            "Path=/",
            "Max-Age=",
        ] {
            assert!(cookie.contains(part), "{part} is missing in {cookie}");
        }
        let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
        let show = format!("GET /emergency/owner HTTP/1.1\r\nHost: otter\r\n{cookie}\r\n");
        let page = ask(&desk, &show);
        assert!(
            page.contains("manager: a line of &lt;the&gt; log"),
            "{page}"
        );
        assert!(page.contains("no-store") && !page.contains("<script"));
        let token = format!("token={}", between(&page, "name=token value=", ">"));
        // Nothing without the cookie, nor with another's token, nor from another site's page.
        assert_eq!(status(&post(&desk, "reboot", "", &token)), "403");
        assert_eq!(status(&post(&desk, "reboot", &cookie, "token=00")), "403");
        let foreign = format!("{cookie}Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(status(&post(&desk, "reboot", &foreign, &token)), "403");
        let answer = post(&desk, "restart-manager", &cookie, &token);
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(
            status(&post(&desk, "restart-manager", &cookie, &token)),
            "403"
        );
        assert_eq!(acts.try_iter().collect::<Vec<_>>(), [Act::RestartManager]);
        // The way out.
        let page = ask(&desk, &show);
        let token = format!("token={}", between(&page, "name=token value=", ">"));
        assert_eq!(status(&post(&desk, "out", &cookie, &token)), "303");
        assert_eq!(acts.try_iter().collect::<Vec<_>>(), [Act::Leave]);
        assert_eq!(status(&ask(&desk, &show)), "303");
    }

    #[test]
    fn who_does_not_know_the_code_sees_nothing() {
        let (desk, socket) = desk();
        let _acts = pid1(&desk, socket);
        for (code, expected) in [("wrong", "403"), ("again", "429"), ("", "403")] {
            let answer = post(&desk, "in", "", &format!("code={code}"));
            assert_eq!(status(&answer), expected, "{answer}");
            assert!(!answer.contains("Set-Cookie") && !answer.contains("of <the> log"));
        }
        let throttled = post(&desk, "in", "", "code=again");
        assert!(throttled.contains("Retry-After: 9\r\n"), "{throttled}");
        let answer = ask(
            &desk,
            "GET /emergency/owner HTTP/1.1\r\nHost: otter\r\n\r\n",
        );
        assert!(answer.contains("Location: /emergency\r\n"), "{answer}");
        let none = "__Host-emergency=";
        let answer = ask(
            &desk,
            &format!("GET /emergency/owner HTTP/1.1\r\nHost: otter\r\nCookie: {none}\r\n\r\n"),
        );
        assert_eq!(status(&answer), "303");
    }

    #[test]
    fn what_is_no_such_request_is_refused() {
        let (desk, _socket) = desk();
        for (request, expected) in [
            ("GET /emergency/in HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            ("GET /emergency/secret HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
            (
                "POST /emergency/in HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                "400",
            ),
            (
                "POST /emergency/in HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n",
                "413",
            ),
            (
                "POST /emergency/in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                "411",
            ),
            ("nonsense\r\n\r\n", "400"),
        ] {
            assert_eq!(status(&ask(&desk, request)), expected, "{request}");
        }
    }

    #[test]
    fn a_change_of_the_network_is_kept_by_a_button_and_by_nothing_else() {
        let (desk, socket) = desk();
        let _acts = pid1(&desk, socket);
        let token = |letter: &str| letter.repeat(32);
        let get = |path: &str| ask(&desk, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let page = get(&format!("/net/confirm/{}", token("a")));
        assert_eq!(status(&page), "200");
        assert!(page.contains(&format!("name=token value={}>", token("a"))));
        for (path, expected) in [
            ("/net/confirm", "405"),
            ("/net/confirm/ab", "404"),
            ("/net/confirm/<script>", "404"),
            ("/net/", "404"),
        ] {
            assert_eq!(status(&get(path)), expected, "{path}");
        }
        let keep = |fields: &str, body: &str| {
            let length = body.len();
            ask(
                &desk,
                &format!(
                    "POST /net/confirm HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\
                     X-Forwarded-For: 192.0.2.7\r\n\r\n{body}"
                ),
            )
        };
        for (letter, expected) in [("a", "200"), ("b", "409"), ("c", "429")] {
            let answer = keep("", &format!("token={}", token(letter)));
            assert_eq!(status(&answer), expected, "{answer}");
        }
        assert_eq!(status(&keep("", "token=ab")), "400");
        let foreign = "Sec-Fetch-Site: cross-site\r\n";
        let body = format!("token={}", token("a"));
        assert_eq!(status(&keep(foreign, &body)), "403");
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let (desk, socket) = desk();
        let waiting: Vec<_> = (0..MOST_OF_ONE)
            .map(|_| {
                let desk = desk.clone();
                std::thread::spawn(move || post(&desk, "in", "", "code=wrong"))
            })
            .collect();
        // PID 1 has been asked by all of them, and has not answered.
        let asked = || locked(&desk.busy).values().sum::<usize>();
        while asked() < MOST_OF_ONE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(status(&post(&desk, "in", "", "code=wrong")), "503");
        let other = ask(
            &desk,
            "GET /emergency/owner HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.8\r\n\r\n",
        );
        assert_eq!(status(&other), "303");
        let _acts = pid1(&desk, socket);
        for thread in waiting {
            assert_eq!(status(&thread.join().unwrap()), "403");
        }
        assert!(locked(&desk.busy).is_empty());
    }
}
