//! The box's name server among real peers, in network name spaces: unbound is asked, dig, kdig and
//! dnsperf ask.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use netstack::{
    ca::Authority,
    names::{
        self, Command, DnsConfig, DnsSettings, DnsStatus, NameServer, Privacy, Sender,
        ServerStatus, Setup,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{
    native::{self, Native, UPLINK},
    netns::{Dnsmasq, Machine, Watch, lacks, until},
};

#[test]
fn a_service_finds_others_and_the_world_and_both_only_once() {
    test("a_service_finds_others_and_the_world", || {
        let lab = Lab::new()?;
        let upstream = Unbound::start(&lab.router, ROUTER, None)?;
        let names = lab.names(&lab.config(&[]))?;
        lab.wait_for("www.example.org", "192.0.2.80")?;
        for _ in 0..5 {
            let answer = lab.ask("+noall +answer WWW.example.org")?;
            ensure!(answer.contains("WWW.example.org.") && answer.contains("192.0.2.80"));
        }
        ensure!(upstream.asked("www.example.org") == 1, "{}", upstream.log());
        for (line, wanted) in [
            ("+short photos.pilot.internal", "10.77.0.2\n"),
            ("+short -x 10.77.0.2", "photos.pilot.internal.\n"),
            ("+noall +comments mail.pilot.internal", "status: NXDOMAIN"),
            ("+noall +comments none.example.org", "status: NXDOMAIN"),
            ("+noall +comments www.example.org AAAA", "status: NOERROR"),
            ("+short +tcp www.example.org", "192.0.2.80\n"),
            ("+short www.example.org ANY +notcp", "RFC8482"),
            ("+noall +comments example.org AXFR", "Transfer failed"),
            ("+noall +comments +ignore long.example.org TXT", " tc "),
            (
                "+noall +comments +edns=1 +noednsneg www.example.org",
                "BADVERS",
            ),
        ] {
            let answer = lab.ask(line)?;
            ensure!(answer.contains(wanted), "{line}: {answer}");
        }
        // What does not fit comes by a connection, on both sides.
        let long = lab.ask("+short long.example.org TXT")?;
        ensure!(long.lines().count() == 40, "{long}");
        let many = lab.service.run(
            "kdig @10.77.0.1 +tcp +keepopen +short www.example.org photos.pilot.internal \
             www.example.org",
        )?;
        ensure!(many.lines().count() == 3, "{many}");
        let status = names.status()?;
        ensure!(status.from_cache >= 6 && status.own >= 3, "{status:?}");
        Ok(())
    });
}

#[test]
fn nobody_but_services_is_served_unless_the_lan_is_wanted() {
    test("nobody_but_services_is_served", || {
        let lab = Lab::new()?;
        let _upstream = Unbound::start(&lab.router, ROUTER, None)?;
        let mut config = lab.config(&[]);
        let names = lab.names(&config)?;
        lab.wait_for("www.example.org", "192.0.2.80")?;
        // The way to the services' network leads through the box.
        lab.other
            .run(&format!("ip route add 10.77.0.0/16 via {BOX}"))?;
        for line in [
            "www.example.org",
            "photos.pilot.internal",
            "+tcp www.example.org",
        ] {
            let line = format!("dig @10.77.0.1 +time=60 +tries=1 {line}");
            let answer = lab.other.run(&line).unwrap_or_else(|e| format!("{e:#}"));
            ensure!(!answer.contains("status: NOERROR"), "{line}: {answer}");
        }
        config.settings.lan = true;
        names.resolve(&config)?;
        names.listen(&lab.the_box, BOX)?;
        let here = BOX.to_string();
        for (name, wanted) in [
            ("www.example.org", "192.0.2.80"),
            ("otter.local", &here),
            ("photos.otter.local", &here),
        ] {
            let line = format!("dig @{BOX} +short +time=5 {name}");
            wait_for(&line, wanted, || lab.other.run(&line))?;
        }
        let line = format!("dig @{BOX} +time=60 mail.otter.local");
        let answer = lab.other.run(&line)?;
        ensure!(answer.contains("status: NXDOMAIN"), "{answer}");
        Ok(())
    });
}

#[test]
fn a_silent_server_is_gone_round_and_comes_back_and_is_told_of() {
    test("a_silent_server_is_gone_round", || {
        let lab = Lab::new()?;
        let _first = Unbound::start(&lab.router, ROUTER, None)?;
        let _second = Unbound::start(&lab.other, OTHER, None)?;
        let mut config = lab.config(&[]);
        config.named.push(OTHER.into());
        let names = lab.names(&config)?;
        lab.wait_for("www.example.org", "192.0.2.80")?;
        deaf(&lab.router, "udp dport 53 drop")?;
        let mut asked = 0;
        let mut state = |wanted: bool| {
            until(SOON, || {
                asked += 1;
                let _ = lab.ask(&format!("+short n{asked}.example.org"));
                let server = names.server(ROUTER).ok();
                server.is_some_and(|server| server.silent_for.is_some() == wanted)
            })
        };
        state(true).context("the first is not known to be silent")?;
        lab.wait_for("m.example.org", "192.0.2.81")?;
        ensure!(names.status()?.works());
        lab.router.run("nft flush ruleset")?;
        state(false).context("the first is not known to be back")
    });
}

#[test]
fn what_was_known_is_told_while_nobody_answers() {
    test("what_was_known_is_told", || {
        let lab = Lab::new()?;
        let _upstream = Unbound::start(&lab.router, ROUTER, None)?;
        let names = lab.names(&lab.config(&[]))?;
        lab.wait_for("brief.example.org", "192.0.2.82")?;
        deaf(&lab.router, "drop")?;
        // Its time is over after a second.
        thread::sleep(Duration::from_secs(2));
        lab.wait_for("brief.example.org", "192.0.2.82")?;
        ensure!(names.status()?.stale > 0);
        let unknown = lab.ask("+noall +comments +time=60 unknown.example.org")?;
        ensure!(unknown.contains("status: SERVFAIL"), "{unknown}");
        lab.router.run("nft flush ruleset")?;
        lab.wait_for("m.example.org", "192.0.2.81")
    });
}

#[test]
fn tls_is_spoken_with_whom_it_must_be_and_with_whom_it_can_be() {
    test("tls_is_spoken", || {
        let lab = Lab::new()?;
        let ca = Authority::create("router", SystemTime::now())?;
        let upstream = Unbound::start(&lab.router, ROUTER, Some((&ca, SystemTime::now())))?;
        let server = |privacy| NameServer {
            address: ROUTER.into(),
            port: None,
            privacy,
        };
        let strict = |name: &str| -> Result<_> {
            Ok(server(Privacy::Strict {
                name: name.to_owned(),
                authority: Some(der(ca.pem())?),
            }))
        };
        let names = lab.names(&lab.config(&[strict("dns.router.example")?]))?;
        lab.wait_for("www.example.org", "192.0.2.80")?;
        let seen = names.server(ROUTER)?;
        ensure!(seen.tls && seen.address.port() == 853, "{seen:?}");
        // Another name: not by TLS, and not openly either.
        names.resolve(&lab.config(&[strict("other.router.example")?]))?;
        let answer = lab.ask("+noall +comments +time=60 n1.example.org")?;
        ensure!(answer.contains("status: SERVFAIL"), "{answer}");
        ensure!(upstream.asked("n1.example.org") == 0, "{}", upstream.log());
        names.resolve(&lab.config(&[server(Privacy::Opportunistic)]))?;
        lab.wait_for("n2.example.org", "192.0.2.81")?;
        ensure!(names.server(ROUTER)?.tls, "{:?}", names.status());
        // A server that speaks it no more.
        deaf(&lab.router, "tcp dport 853 reject with tcp reset")?;
        lab.wait_for("n3.example.org", "192.0.2.81")?;
        lab.wait_for("n4.example.org", "192.0.2.81")?;
        until(SOON, || {
            names.server(ROUTER).is_ok_and(|server| !server.tls)
        })
    });
}

/// Time servers are found by name, so a clock that was not set yet must not keep names from being
/// found; who the server is must be proved all the same.
#[test]
fn the_time_of_a_certificate_counts_once_the_clock_is_right() {
    test("the_time_of_a_certificate_counts", || {
        let since = SystemTime::now() + TEN_YEARS;
        let lab = Lab::new()?;
        let ca = Authority::create("router", since)?;
        let _upstream = Unbound::start(&lab.router, ROUTER, Some((&ca, since)))?;
        let config = |name: &str, clock_is_right| -> Result<DnsConfig> {
            let server = NameServer {
                address: ROUTER.into(),
                port: None,
                privacy: Privacy::Strict {
                    name: name.to_owned(),
                    authority: Some(der(ca.pem())?),
                },
            };
            Ok(DnsConfig {
                clock_is_right,
                ..lab.config(&[server])
            })
        };
        let is_refused = |name: &str| -> Result<()> {
            let answer = lab.ask(&format!("+noall +comments +time=60 {name}"))?;
            ensure!(answer.contains("status: SERVFAIL"), "{answer}");
            Ok(())
        };
        let names = lab.names(&config("dns.router.example", true)?)?;
        is_refused("n1.example.org")?;
        names.resolve(&config("other.router.example", false)?)?;
        is_refused("n2.example.org")?;
        names.resolve(&config("dns.router.example", false)?)?;
        lab.wait_for("n3.example.org", "192.0.2.81")?;
        Ok(())
    });
}

#[test]
fn the_names_of_a_domain_are_asked_of_those_who_know_them() {
    test("the_names_of_a_domain", || {
        let lab = Lab::new()?;
        let first = Unbound::start(&lab.router, ROUTER, None)?;
        let second = Unbound::start(&lab.other, OTHER, None)?;
        let mut config = lab.config(&[]);
        let servers = vec![NameServer::plain(OTHER.into())];
        config.settings.domains = [("corp.example.org".to_owned(), servers)].into();
        let _names = lab.names(&config)?;
        lab.wait_for("a.corp.example.org", "192.0.2.81")?;
        lab.wait_for("b.example.org", "192.0.2.81")?;
        let (all, corp) = (first.log(), second.log());
        ensure!(
            all.contains("b.example.org") && !all.contains("corp"),
            "{all}"
        );
        ensure!(
            corp.contains("corp") && !corp.contains(" b.example.org"),
            "{corp}"
        );
        Ok(())
    });
}

#[test]
fn a_load_of_questions_is_answered_whole_also_while_a_successor_takes_over() {
    test("a_load_of_questions", || {
        let lab = Lab::new()?;
        let _upstream = Unbound::start(&lab.router, ROUTER, None)?;
        let config = lab.config(&[]);
        let first = lab.names(&config)?;
        let file = std::env::temp_dir().join(format!("{}-questions", lab.service.name()));
        let lines: String = (0..500).map(|n| format!("n{n}.example.org A\n")).collect();
        fs::write(&file, lines + "photos.pilot.internal A\n")?;
        let load = |more: &str| {
            format!(
                "dnsperf -s 10.77.0.1 -d {} -q 50 -t 120 {more}",
                file.display()
            )
        };
        // Until all are known: a starved upstream may take longer than clients would wait.
        let all = |output: &str| {
            output.contains("Response codes:       NOERROR") && output.contains("(100.00%)")
        };
        until(SOON, || {
            let output = lab.service.run(&load("-n 1")).unwrap_or_default();
            all(&output) && output.matches("(100.00%)").count() >= 2
        })
        .context("the names are never all known")?;
        let running = lab.service.watch(&load("-n 100 -c 4"))?;
        let second = Names::start(&lab.the_box, &config)?;
        second.take_over(&first)?;
        until(SOON, || running.so_far().contains("Queries per second"))
            .with_context(|| running.so_far())?;
        let output = running.end();
        fs::remove_file(&file)?;
        ensure!(
            output.contains("Queries lost:         0 (0.00%)"),
            "{output}"
        );
        ensure!(all(&output), "{output}");
        let load = |mode: &str| {
            let line = format!("dig @10.77.0.1 +short +time=60 {mode} photos.pilot.internal");
            lab.service.run(&line)
        };
        ensure!(load("+tcp")? == "10.77.0.2\n" && load("+notcp")? == "10.77.0.2\n");
        Ok(())
    });
}

/// The whole of PID 1 and its front: what is asked while there is no front waits for the next one.
#[test]
fn no_question_is_lost_when_the_front_is_killed() {
    test("no_question_is_lost_when_the_front_is_killed", || {
        let native = Native::start("names")?;
        let ask = |more: &str| {
            let line = format!("dig +short +time=120 +tries=1 {more}");
            native.machine().run(&line)
        };
        let wanted = "pilot.internal.";
        wait_for("loopback", wanted, || ask("@127.0.0.1 -x 10.77.0.1"))?;
        wait_for("the bridge", wanted, || ask("@10.77.0.1 -x 10.77.0.1"))?;
        for way in ["+notcp", "+tcp", "+notcp"] {
            let front = native.role("front")?;
            let pid = Pid::from_raw(front.cast_signed()).context("a pid")?;
            kill_process(pid, Signal::KILL)?;
            let process = PathBuf::from(format!("/proc/{front}"));
            until(SOON, || !process.exists())?;
            let answer = ask(&format!("@10.77.0.1 {way} -x 10.77.0.1"))?;
            ensure!(answer.contains(wanted), "{way}: {answer}");
            until(SOON, || {
                native.role("front").is_ok_and(|next| next != front)
            })?;
        }
        let config = fs::read_to_string(native.path("/run/resolv.conf")?)?;
        ensure!(config == "nameserver 127.0.0.1\n", "{config}");
        Ok(())
    });
}

#[test]
fn the_lan_is_answered_while_its_owner_wants_it() {
    test("the_lan_is_answered_while_its_owner_wants_it", || {
        let native = Native::start("lan-names")?;
        let (client, router) = (Machine::new("client")?, Ipv4Addr::new(192, 168, 50, 1));
        native.machine().cable(UPLINK, &client, "lan0")?;
        client.run(&format!("ip addr add {router}/24 dev lan0"))?;
        client.run("ip link set lan0 up")?;
        let _upstream = Unbound::start(&client, router, None)?;
        let option = format!("--dhcp-option=option:dns-server,{router}");
        let _dhcp = Dnsmasq::start(&client, "lan0", &option)?;
        let mut address = String::new();
        let mut hostname = String::new();
        until(SOON, || {
            let status = native
                .call("net.status", &json!({}), SOON)
                .unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let links = status["links"].as_array().into_iter().flatten();
            let all = links.flat_map(|link| link["addresses"].as_array().into_iter().flatten());
            let mut leased = all.map(text).filter(|it| it.starts_with("192.168.50."));
            address = leased.next().unwrap_or_default();
            address.truncate(address.find('/').unwrap_or_default());
            hostname = text(&status["hostname"]);
            !address.is_empty()
        })?;
        let ask = |line: &str| client.run(&format!("dig @{address} +short {line}"));
        let is_refused = |line: &str| ask(&format!("+time=2 +tries=1 {line}")).is_err();
        ensure!(is_refused("www.example.org"), "by datagram");
        ensure!(is_refused("+tcp www.example.org"), "by connection");

        let set = |lan: bool| {
            // The manager may be starting.
            let mut last = String::new();
            until(SOON, || {
                match native.call("net.general", &json!({ "lan": lan }), SOON) {
                    Ok(_) => return true,
                    Err(e) => last = format!("{e:#}"),
                }
                false
            })
            .with_context(|| last.clone())
        };
        set(true)?;
        let own = format!("{hostname}.local");
        for (name, wanted) in [("www.example.org", "192.0.2.80"), (&own, &address)] {
            for way in ["+notcp", "+tcp"] {
                wait_for(name, wanted, || ask(&format!("+time=5 {way} {name}")))?;
            }
        }
        until(SOON, || {
            let told = native.call("net.status", &json!({}), SOON);
            told.is_ok_and(|told| told["lan"] == true)
        })
        .context("it is not told")?;

        set(false)?;
        for way in ["+notcp", "+tcp"] {
            until(SOON, || is_refused(&format!("{way} www.example.org")))
                .context("it is answered although that is not wanted any more")?;
        }
        Ok(())
    });
}

/// The box with a service on its bridge, and a LAN with a router and another machine.
struct Lab {
    the_box: Machine,
    service: Machine,
    router: Machine,
    other: Machine,
    _switch: Machine,
}

impl Lab {
    fn new() -> Result<Self> {
        let lab = Self {
            the_box: Machine::new("box")?,
            service: Machine::new("service")?,
            router: Machine::new("router")?,
            other: Machine::new("other")?,
            _switch: Machine::new("switch")?,
        };
        let switch = &lab._switch;
        switch.run("ip link add lan type bridge")?;
        switch.run("ip link set lan up")?;
        let on_lan = [
            (&lab.the_box, BOX),
            (&lab.router, ROUTER),
            (&lab.other, OTHER),
        ];
        for (n, (machine, address)) in on_lan.into_iter().enumerate() {
            machine.cable("lan0", switch, &format!("port{n}"))?;
            switch.run(&format!("ip link set port{n} master lan up"))?;
            machine.run(&format!("ip addr add {address}/24 dev lan0"))?;
            machine.run("ip link set lan0 up")?;
            machine.run("ip link set lo up")?;
        }
        lab.the_box.cable("pilot0", &lab.service, "eth0")?;
        lab.the_box.run("ip addr add 10.77.0.1/16 dev pilot0")?;
        lab.the_box.run("ip link set pilot0 up")?;
        lab.service.run("ip addr add 10.77.0.2/16 dev eth0")?;
        lab.service.run("ip link set eth0 up")?;
        Ok(lab)
    }

    /// The router is asked, or those servers.
    fn config(&self, servers: &[NameServer]) -> DnsConfig {
        DnsConfig {
            settings: DnsSettings {
                servers: servers.to_vec(),
                ..DnsSettings::default()
            },
            bridge: Some((BRIDGE, 16)),
            services: vec![("photos".to_owned(), Ipv4Addr::new(10, 77, 0, 2))],
            named: vec![ROUTER.into()],
            addresses: vec![(BOX.into(), 24)],
            hostname: "otter".to_owned(),
            sites: vec!["photos".to_owned()],
            clock_is_right: true,
        }
    }

    fn names(&self, config: &DnsConfig) -> Result<Names> {
        let names = Names::start(&self.the_box, config)?;
        names.listen(&self.the_box, BRIDGE)?;
        Ok(names)
    }

    /// Asks the box, as the service.
    fn ask(&self, line: &str) -> Result<String> {
        self.service.run(&format!("dig @10.77.0.1 {line}"))
    }

    /// Asks for the address of a name until it is `wanted`.
    fn wait_for(&self, name: &str, wanted: &str) -> Result<()> {
        wait_for(name, wanted, || self.ask(&format!("+short +time=5 {name}")))
    }
}

fn wait_for(what: &str, wanted: &str, mut ask: impl FnMut() -> Result<String>) -> Result<()> {
    let mut last = String::new();
    until(SOON, || {
        last = ask().unwrap_or_else(|e| format!("{e:#}"));
        last.contains(wanted)
    })
    .with_context(|| format!("{what} is {last:?}"))
}

/// The thread `names` in a machine.
struct Names {
    sender: Sender,
    status: Arc<Mutex<DnsStatus>>,
    sockets: Mutex<Option<(UdpSocket, TcpListener)>>,
}

impl Names {
    fn start(machine: &Machine, config: &DnsConfig) -> Result<Self> {
        let status = Arc::<Mutex<DnsStatus>>::default();
        let told = Arc::clone(&status);
        let (sender, receiver) = names::channel()?;
        let setup = Setup {
            log: Box::new(|line| println!("{line}")),
            on_hostname: Box::new(|_| {}),
            on_dns: Box::new(move |status| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = status.clone();
            }),
        };
        machine.within(|| {
            thread::spawn(move || names::run(setup, receiver));
            Ok(())
        })?;
        let names = Self {
            sender,
            status,
            sockets: Mutex::default(),
        };
        names.resolve(config)?;
        Ok(names)
    }

    fn resolve(&self, config: &DnsConfig) -> Result<()> {
        let config = Box::new(config.clone());
        ensure!(self.sender.send(Command::Resolve(config)));
        Ok(())
    }

    /// As PID 1 does: it keeps the sockets.
    fn listen(&self, machine: &Machine, address: Ipv4Addr) -> Result<()> {
        let bind = || {
            Ok((
                UdpSocket::bind((address, 53))?,
                TcpListener::bind((address, 53))?,
            ))
        };
        let sockets = machine.within(bind)?;
        self.hear(address, &sockets)?;
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets);
        Ok(())
    }

    fn hear(&self, address: Ipv4Addr, sockets: &(UdpSocket, TcpListener)) -> Result<()> {
        ensure!(self.sender.send(Command::Listen {
            address: address.into(),
            datagrams: sockets.0.try_clone()?,
            listener: sockets.1.try_clone()?,
        }));
        Ok(())
    }

    /// Listens where another did, who asks for nothing more.
    fn take_over(&self, other: &Self) -> Result<()> {
        let sockets = other.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        self.hear(BRIDGE, sockets.as_ref().context("it listens")?)?;
        ensure!(other.sender.send(Command::Retire));
        Ok(())
    }

    /// What it says of itself, with something to say.
    fn status(&self) -> Result<DnsStatus> {
        // It tells now and then while it has work.
        let told = || {
            let told = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            told.clone()
        };
        let before = told();
        until(SOON, || {
            // Something to do, so that it looks.
            let _ = self.sender.send(Command::Close {
                address: IpAddr::from([203, 0, 113, 1]),
            });
            told() != before
        })
        .or_else(|e| if before.questions > 0 { Ok(()) } else { Err(e) })?;
        Ok(told())
    }

    /// What it says of one of those whom it asks.
    fn server(&self, address: Ipv4Addr) -> Result<ServerStatus> {
        let _ = self.sender.send(Command::Close {
            address: IpAddr::from([203, 0, 113, 1]),
        });
        let told = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let mut servers = told.servers.iter();
        let found = servers.find(|server| server.address.ip() == IpAddr::from(address));
        found.cloned().context("it is not asked")
    }
}

/// unbound on a machine, with names of its own and no way to others.
struct Unbound {
    daemon: Watch,
    folder: PathBuf,
}

impl Unbound {
    fn start(
        machine: &Machine,
        address: Ipv4Addr,
        tls: Option<(&Authority, SystemTime)>,
    ) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-unbound", machine.name()));
        fs::create_dir_all(&folder)?;
        let place = folder.display();
        let mut text = format!(
            "server:\n interface: {address}\n access-control: 0.0.0.0/0 allow\n\
             do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n directory: \"\"\n\
             use-syslog: no\n logfile: \"\"\n log-queries: yes\n verbosity: 1\n\
             module-config: \"iterator\"\n max-udp-size: 1232\n\
             local-zone: \"example.org.\" redirect\n\
             local-data: \"example.org. 3600 IN A 192.0.2.81\"\n"
        );
        for (name, record) in [
            ("www", "300 IN A 192.0.2.80".to_owned()),
            ("brief", "1 IN A 192.0.2.82".to_owned()),
        ] {
            text += &format!(" local-zone: \"{name}.example.org.\" static\n");
            text += &format!(" local-data: \"{name}.example.org. {record}\"\n");
        }
        text += " local-zone: \"none.example.org.\" always_nxdomain\n";
        text += " local-zone: \"long.example.org.\" static\n";
        for n in 0..40 {
            let filler = "x".repeat(100);
            text += &format!(" local-data: 'long.example.org. 60 IN TXT \"{n} {filler}\"'\n");
        }
        if let Some((ca, since)) = tls {
            let identity = ca.issue(&["dns.router.example".to_owned()], since)?;
            let chain = identity.chain_der.iter();
            let chain: String = chain.map(|der| pem("CERTIFICATE", der)).collect();
            fs::write(folder.join("chain.pem"), chain)?;
            fs::write(
                folder.join("key.pem"),
                pem("PRIVATE KEY", &identity.key_der),
            )?;
            text += &format!(
                " interface: {address}@853\n tls-port: 853\n\
                 tls-service-key: \"{place}/key.pem\"\n tls-service-pem: \"{place}/chain.pem\"\n"
            );
        }
        text += "remote-control:\n control-enable: no\n";
        fs::write(folder.join("unbound.conf"), text)?;
        let daemon = machine.watch(&format!("unbound -d -c {place}/unbound.conf"))?;
        let unbound = Self { daemon, folder };
        until(SOON, || unbound.log().contains("start of service"))
            .with_context(|| unbound.log())?;
        Ok(unbound)
    }

    /// How often it was asked for a name.
    fn asked(&self, name: &str) -> usize {
        self.log().matches(&format!(" {name}. ")).count()
    }

    fn log(&self) -> String {
        self.daemon.so_far()
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// What arrives at a machine and fits is treated so.
fn deaf(machine: &Machine, rule: &str) -> Result<()> {
    machine.run("nft add table ip lab")?;
    machine.run("nft add chain ip lab in { type filter hook input priority 0 ; }")?;
    machine.run(&format!("nft add rule ip lab in {rule}"))?;
    Ok(())
}

fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
}

fn der(pem: &str) -> Result<Vec<u8>> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    Ok(STANDARD.decode(lines.collect::<String>())?)
}

/// Runs a test where it can run, and says loudly where it can't.
fn test(name: &str, work: impl FnOnce() -> Result<()>) {
    if let Some(why) = lacks().or_else(native::lacks) {
        println!("SKIPPED: {name}: {why}");
        return;
    }
    if let Err(error) = work() {
        panic!("{name}: {error:?}");
    }
}

const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BOX: Ipv4Addr = Ipv4Addr::new(192, 168, 61, 10);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 61, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 61, 2);
/// On a loaded machine.
const SOON: Duration = Duration::from_secs(120);
const TEN_YEARS: Duration = Duration::from_secs(3652 * 86_400);
