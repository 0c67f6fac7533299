//! The stateless DHCPv6 client (RFC 8415, sections 6.1 and 18.2.6) as a state machine: addresses are
//! made as routers announce their networks, servers' names and the like are asked for here, when a
//! router says that there is somebody to ask.
//!
//! It has no socket and no clock. It never gives up; what it was told last holds until it is told
//! anew, as long as the link has its carrier and a router says so.

pub(crate) mod message;

use std::{net::Ipv6Addr, time::Duration};

use message::{Message, Options};

use super::{clock::Now, frame::Mac, random::Random};

/// A client on one link.
#[derive(Debug)]
pub(crate) struct Client {
    identity: Vec<u8>,
    random: Random,
    state: State,
    transaction: u32,
    /// The longest pause between two questions (INF_MAX_RT).
    longest_pause: Duration,
    information: Option<Information>,
    outgoing: Option<Vec<u8>>,
}

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Information {
    /// Name servers in the order of their use.
    pub(crate) dns: Vec<Ipv6Addr>,
    /// Domains to look for a short name in, in this order.
    pub(crate) search: Vec<String>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv6Addr>,
}

#[derive(Debug)]
enum State {
    /// There is nobody to ask.
    Idle,
    /// It begins to ask then: not all hosts of a network at once.
    Waiting { until: Now },
    /// It has been asking since `began` and asks again then.
    Asking {
        began: Now,
        pause: Duration,
        next: Now,
    },
    /// It knows; what it knows is asked for anew then, if ever.
    Informed { refresh: Option<Now> },
}

impl Client {
    /// A client that asks nobody yet.
    pub(crate) fn new(mac: Mac, random: Random) -> Self {
        Self {
            identity: [&LINK_LAYER[..], &mac].concat(),
            random,
            state: State::Idle,
            transaction: 0,
            longest_pause: LONGEST_PAUSE,
            information: None,
            outgoing: None,
        }
    }

    /// Whether there is a carrier, and a router says that there is somebody to ask.
    pub(crate) fn want(&mut self, now: Now, wanted: bool) {
        match (&self.state, wanted) {
            (State::Idle, true) => {
                let until = now + self.random.between(Duration::ZERO, BEGIN_WITHIN);
                self.state = State::Waiting { until };
            }
            (_, true) => {}
            (_, false) => {
                self.state = State::Idle;
                self.longest_pause = LONGEST_PAUSE;
                self.information = None;
                self.outgoing = None;
            }
        }
    }

    /// A message arrived. What is not an answer to the question changes nothing.
    pub(crate) fn receive(&mut self, now: Now, bytes: &[u8]) {
        let (State::Asking { .. }, Some(message)) = (&self.state, Message::parse(bytes)) else {
            return;
        };
        let options = &message.options;
        let ours = message.kind == message::REPLY
            && message.transaction == self.transaction
            && options.bytes(message::CLIENT_ID) == Some(&self.identity[..])
            && options
                .bytes(message::SERVER_ID)
                .is_some_and(|id| !id.is_empty());
        if !ours {
            return;
        }
        if let Some(seconds) = options.u32(message::LONGEST_PAUSE)
            && (60..=86_400).contains(&seconds)
        {
            self.longest_pause = Duration::from_secs(seconds.into());
        }
        if options.succeeds() {
            self.information = Some(Information::of(options));
            self.state = State::Informed {
                refresh: refresh(options).map(|pause| now + pause),
            };
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        match self.state {
            State::Waiting { until } if until <= now => self.begin(now),
            State::Informed {
                refresh: Some(refresh),
            } if refresh <= now => self.begin(now),
            State::Asking { began, pause, next } if next <= now => {
                let pause = self.longer(pause);
                self.ask(now, began, pause);
            }
            State::Idle | State::Waiting { .. } | State::Asking { .. } | State::Informed { .. } => {
            }
        }
    }

    /// Takes the message to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.take()
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Idle => None,
            State::Waiting { until } => Some(until),
            State::Asking { next, .. } => Some(next),
            State::Informed { refresh } => refresh,
        }
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// What a server said.
    pub(crate) fn information(&self) -> Option<&Information> {
        self.information.as_ref()
    }

    fn begin(&mut self, now: Now) {
        self.transaction = self.random.next() as u32 & 0xff_ffff;
        let pause = self.about(FIRST_PAUSE);
        self.ask(now, now, pause);
    }

    /// Asks, and again after a pause.
    fn ask(&mut self, now: Now, began: Now, pause: Duration) {
        let next = now + pause;
        self.state = State::Asking { began, pause, next };
        let hundredths = now.saturating_sub(began).as_millis() / 10;
        let elapsed = u16::try_from(hundredths).unwrap_or(u16::MAX);
        let wanted: Vec<u8> = WANTED.iter().flat_map(|code| code.to_be_bytes()).collect();
        let question = Message {
            kind: message::INFORMATION_REQUEST,
            transaction: self.transaction,
            options: Options::default()
                .with(message::CLIENT_ID, &self.identity)
                .with(message::ELAPSED, &elapsed.to_be_bytes())
                .with(message::WANTED, &wanted),
        };
        self.outgoing = Some(question.encode());
    }

    /// The pause after this one (RFC 8415, section 15).
    fn longer(&mut self, pause: Duration) -> Duration {
        let doubled = pause + self.about(pause);
        if doubled > self.longest_pause {
            return self.about(self.longest_pause);
        }
        doubled
    }

    /// A tenth more or less, at random.
    fn about(&mut self, pause: Duration) -> Duration {
        let tenth = pause / 10;
        self.random.between(pause - tenth, pause + tenth)
    }
}

impl Information {
    fn of(options: &Options) -> Self {
        let mut ntp = options.time_servers();
        ntp.extend(options.addresses(message::SNTP));
        Self {
            dns: few(options.addresses(message::DNS)),
            search: options.domains(message::DOMAINS),
            ntp: few(ntp),
        }
    }
}

/// Each once, and no more than anybody asks.
fn few(addresses: Vec<Ipv6Addr>) -> Vec<Ipv6Addr> {
    let mut few = Vec::new();
    for address in addresses {
        if few.len() < SERVERS_MAX && !few.contains(&address) {
            few.push(address);
        }
    }
    few
}

/// How long what is said holds; none is for ever (RFC 8415, 21.23).
fn refresh(options: &Options) -> Option<Duration> {
    match options.u32(message::REFRESH_TIME) {
        Some(u32::MAX) => None,
        Some(seconds) => Some(Duration::from_secs(seconds.into()).max(SHORTEST_REFRESH)),
        None => Some(REFRESH),
    }
}

/// Who answers and whom a question is for (RFC 8415, 7.1 and 7.2).
pub(crate) const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
pub(crate) const SERVER_PORT: u16 = 547;
pub(crate) const CLIENT_PORT: u16 = 546;

/// DUID-LL of Ethernet (RFC 8415, 11.4): the hardware address follows.
const LINK_LAYER: [u8; 4] = [0, 3, 0, 1];

const WANTED: [u16; 6] = [
    message::DNS,
    message::DOMAINS,
    message::SNTP,
    message::NTP,
    message::REFRESH_TIME,
    message::LONGEST_PAUSE,
];

// INF_MAX_DELAY, INF_TIMEOUT, INF_MAX_RT, IRT_DEFAULT and IRT_MINIMUM of RFC 8415, section 7.6.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
const REFRESH: Duration = Duration::from_secs(86_400);
const SHORTEST_REFRESH: Duration = Duration::from_secs(600);

/// More servers than anybody asks.
const SERVERS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn client(seed: u64) -> Client {
        let mut client = Client::new(MAC, Random::new(seed));
        client.want(Now::ZERO, true);
        client
    }

    /// Lets the deadlines come until then; gives when it asked, and the last question.
    fn run(client: &mut Client, until: Now) -> (Vec<Now>, Option<Message>) {
        let (mut times, mut last) = (Vec::new(), None);
        while let Some(at) = client.deadline().filter(|at| *at <= until) {
            client.tick(at);
            if let Some(question) = client.transmit() {
                times.push(at);
                last = Message::parse(&question);
            }
        }
        (times, last)
    }

    fn reply(asked: &Message, options: Options) -> Vec<u8> {
        let id = asked.options.bytes(message::CLIENT_ID).expect("ours");
        let options = options
            .with(message::CLIENT_ID, id)
            .with(message::SERVER_ID, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
        let reply = Message {
            kind: message::REPLY,
            transaction: asked.transaction,
            options,
        };
        reply.encode()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_silent_network_is_asked_ever_more_rarely_but_for_ever() {
        for seed in 0..50 {
            let mut client = client(seed);
            let (times, last) = run(&mut client, Duration::from_secs(20 * 3600));
            assert!(times[0] <= BEGIN_WITHIN);
            let pauses: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
            let tenth =
                |pause: Duration, of: Duration| (of * 9 / 10..=of * 11 / 10).contains(&pause);
            assert!(tenth(pauses[0], FIRST_PAUSE), "{pauses:?}");
            for two in pauses.windows(2) {
                let doubled = (two[0] * 19 / 10..=two[0] * 21 / 10).contains(&two[1]);
                assert!(doubled || tenth(two[1], LONGEST_PAUSE), "{pauses:?}");
            }
            assert!((24..=36).contains(&times.len()), "{}", times.len());
            let last = last.expect("a question");
            assert_eq!(last.kind, message::INFORMATION_REQUEST);
            let elapsed = last.options.bytes(message::ELAPSED);
            assert_eq!(
                elapsed,
                Some(&[0xff, 0xff][..]),
                "for longer than it can say"
            );
        }
    }

    /// What Kea 2.2 sends, with its own identifier cut short.
    #[test]
    fn a_server_s_answer_is_taken_and_asked_for_anew_in_its_time() {
        let mut client = client(1);
        let (_, asked) = run(&mut client, Duration::from_secs(1));
        let asked = asked.expect("a question");
        assert!(client.is_asking());
        let dns = [v6("2001:db8::53").octets(), v6("fe80::1").octets()].concat();
        let options = Options::default()
            .with(message::DNS, &dns)
            .with(message::DOMAINS, b"\x04home\x04arpa\x00\x03lan\x00")
            .with(message::SNTP, &v6("2001:db8::123").octets())
            .with(message::REFRESH_TIME, &7200u32.to_be_bytes());
        let now = Duration::from_secs(1);
        client.receive(now, &reply(&asked, options));
        let expected = Information {
            dns: vec![v6("2001:db8::53")],
            search: vec!["home.arpa".to_owned(), "lan".to_owned()],
            ntp: vec![v6("2001:db8::123")],
        };
        assert_eq!(client.information(), Some(&expected));
        let again = now + Duration::from_secs(7200);
        assert_eq!(
            (client.is_asking(), client.deadline()),
            (false, Some(again))
        );

        // The server is gone: what it said holds, and it is asked for again and again.
        let (times, later) = run(&mut client, again + Duration::from_secs(600));
        assert!(times.len() > 5 && later.expect("asked").transaction != asked.transaction);
        assert_eq!(client.information(), Some(&expected));
        client.want(again, false);
        assert_eq!((client.information(), client.deadline()), (None, None));
    }

    #[test]
    fn times_that_make_no_sense_are_replaced() {
        for (said, holds) in [
            (None, Some(REFRESH)),
            (Some(0), Some(SHORTEST_REFRESH)),
            (Some(u32::MAX), None),
        ] {
            let mut client = client(2);
            let (_, asked) = run(&mut client, Duration::from_secs(1));
            let options = match said {
                Some(said) => Options::default().with(message::REFRESH_TIME, &said.to_be_bytes()),
                None => Options::default(),
            };
            client.receive(Now::ZERO, &reply(&asked.expect("asked"), options));
            assert_eq!(client.deadline(), holds, "{said:?}");
        }
    }

    #[test]
    fn a_server_may_ask_for_longer_pauses_but_not_for_silence() {
        for (said, longest) in [(60, 60), (59, 3600), (86_401, 3600)] {
            let mut client = client(3);
            let (_, asked) = run(&mut client, Duration::from_secs(1));
            let said = u32::to_be_bytes(said);
            let options = Options::default()
                .with(13, &[0, 1])
                .with(message::LONGEST_PAUSE, &said);
            client.receive(
                Duration::from_secs(1),
                &reply(&asked.expect("asked"), options),
            );
            assert!(client.is_asking() && client.information().is_none());
            assert_eq!(client.longest_pause, Duration::from_secs(longest));
        }
    }

    #[test]
    fn what_answers_no_question_of_ours_changes_nothing() {
        let mut client = client(4);
        let (_, asked) = run(&mut client, Duration::from_secs(1));
        let asked = asked.expect("a question");
        let good = reply(&asked, Options::default());
        let mut bad: Vec<Vec<u8>> = vec![good.clone(); 2];
        bad[0][0] = 2;
        bad[1][3] ^= 1;
        let other = Message {
            options: Options::default().with(message::CLIENT_ID, &[0, 3, 0, 1, 9]),
            ..asked.clone()
        };
        bad.push(reply(&other, Options::default()));
        let nobody = Options::default().with(message::SERVER_ID, &[]);
        bad.push(reply(&asked, nobody));
        for bad in bad {
            client.receive(Now::ZERO, &bad);
            assert!(client.is_asking(), "{bad:?}");
        }
        client.receive(Now::ZERO, &good);
        assert_eq!(client.information(), Some(&Information::default()));
        client.receive(
            Now::ZERO,
            &reply(&asked, Options::default().with(13, &[0, 1])),
        );
        assert!(!client.is_asking(), "it was answered already");
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = Random::new(6);
        let mut client = client(6);
        let (_, asked) = run(&mut client, Duration::from_secs(1));
        let options = Options::default()
            .with(message::NTP, &[&[0, 1, 0, 16][..], &[0x20; 16]].concat())
            .with(message::DOMAINS, b"\x04home\x04arpa\x00");
        let good = reply(&asked.expect("asked"), options);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            client.receive(Now::ZERO, &bytes);
            client.want(Now::ZERO, false);
            client.want(Now::ZERO, true);
            run(&mut client, Duration::from_secs(1));
        }
    }
}
