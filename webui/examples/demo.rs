//! Serves the dashboard of a made-up box on a loopback port, to look at the page and work on it.
//!
//! `cargo run -p webui --example demo -- 8080 [busy|well|stalled]`: a small proxy stands in for the
//! door. The setup code is `demo`.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use supervise::{
    control::{Power, Secret},
    network::{Change, ChangeTaken, Finding, GeneralSetting, Verdict, Wish},
    status::{
        BoxStatus, DataState, GuardEvent, LinkSummary, NetSummary, Notice, NoticeLevel,
        StepOutcome, StepReport,
    },
    unit::{UnitInfo, UnitName, UnitState},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    time::sleep,
};
use webui::{
    Asked, Host, Interface, Listeners, LogLine, ServiceCommand, ServiceState, ServiceView, Snapshot,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "8080".to_owned()).parse()?;
    let mood = args.next().unwrap_or_else(|| "busy".to_owned());
    let dir = std::env::temp_dir().join(format!("webui-demo-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let path = dir.join("dashboard.sock");
    let listeners = Listeners {
        dashboard: UnixListener::bind(&path)?,
        local: UnixListener::bind(dir.join("api.sock"))?,
    };
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("http://localhost:{port}/");
    let host = Arc::new(Demo::new(mood == "well"));
    let life = host.clone();
    tokio::spawn(async move { life.live().await });
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = door.accept().await {
            let path = path.clone();
            tokio::spawn(async move {
                let mut inside = UnixStream::connect(&path).await?;
                copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    webui::serve(listeners, host).await?;
    Ok(())
}

/// A box that exists only in this process.
struct Demo {
    state: watch::Sender<Arc<Snapshot>>,
}

impl Demo {
    fn new(well: bool) -> Self {
        let state = watch::Sender::new(Arc::new(snapshot(well)));
        Self { state }
    }

    /// Something changes every few seconds.
    async fn live(&self) {
        for round in 0u64.. {
            sleep(Duration::from_secs(3)).await;
            self.change(|snapshot| {
                snapshot.services[1].restarts = u32::try_from(round / 5).unwrap_or(0);
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let passed = webui::metrics::uptime();
        self.state.send_modify(|snapshot| {
            let snapshot = Arc::make_mut(snapshot);
            let more = passed.saturating_sub(snapshot.status.uptime);
            snapshot.status.uptime = passed;
            snapshot
                .services
                .iter_mut()
                .for_each(|service| service.since = service.since.map(|since| since + more));
            snapshot
                .status
                .roles
                .iter_mut()
                .for_each(|role| role.since += more);
            change(snapshot);
        });
    }
}

impl Host for Demo {
    fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.state.subscribe()
    }

    fn logs(&self, unit: Option<UnitName>, lines: usize) -> Asked<'_, Vec<LogLine>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let first = (now - now % 3).saturating_sub(3 * lines as u64);
        let line = |n: u64| LogLine {
            at: Some(n * 1000),
            unit: ["service-photos", "manager", "front"][(n / 3 % 3) as usize].to_owned(),
            priority: if n.is_multiple_of(33) { 4 } else { 6 },
            text: format!("GET /albums/{} 200, {} ms", n % 97, n % 13),
        };
        let all = (first..=now).filter(|n| n.is_multiple_of(3)).map(line);
        let lines = all
            .filter(|l| unit.as_ref().is_none_or(|u| u.as_str() == l.unit))
            .collect();
        Box::pin(async { Ok(lines) })
    }

    fn service(&self, id: &str, command: ServiceCommand) -> Result<(), String> {
        if !self
            .state
            .borrow()
            .services
            .iter()
            .any(|service| service.id == id)
        {
            return Err(format!("There is no service {id:?}."));
        }
        self.change(|snapshot| {
            for service in snapshot
                .services
                .iter_mut()
                .filter(|service| service.id == id)
            {
                service.since = Some(Duration::ZERO);
                service.why = None;
                service.state = match command {
                    ServiceCommand::Restart | ServiceCommand::Start => ServiceState::Running,
                    ServiceCommand::Stop => ServiceState::Stopped,
                };
            }
        });
        Ok(())
    }

    fn power(&self, how: Power) -> Result<(), String> {
        self.change(|snapshot| {
            snapshot.status.going_down = Some(
                match how {
                    Power::Halt => "Halting.",
                    Power::PowerOff => "Turning off.",
                    Power::Reboot => "Restarting.",
                }
                .to_owned(),
            );
        });
        Ok(())
    }

    fn upgrade(&self, _program: std::os::fd::OwnedFd) -> Result<(), String> {
        Err("the demo has no PID 1".to_owned())
    }

    fn restart_role(&self, role: &UnitName) -> Result<(), String> {
        self.change(|snapshot| {
            for each in snapshot
                .status
                .roles
                .iter_mut()
                .filter(|each| each.unit == *role)
            {
                each.since = Duration::ZERO;
                each.restarts += 1;
            }
        });
        Ok(())
    }

    fn set_network(&self, link: String, wish: Wish, seconds: u64) -> Asked<'_, ChangeTaken> {
        self.change(|snapshot| {
            snapshot.status.network.change = Some(Change {
                link,
                wish,
                applied: true,
                until: snapshot.status.uptime + Duration::from_secs(seconds),
            });
        });
        Box::pin(async move {
            Ok(ChangeTaken {
                token: Secret("0123456789abcdef".repeat(2)),
                seconds,
                applies_in: 0,
                addresses: Vec::new(),
            })
        })
    }

    fn confirm_network(&self, _token: Secret) -> Asked<'_, bool> {
        self.change(|snapshot| {
            let network = &mut snapshot.status.network;
            if let Some(change) = network.change.take() {
                let setting = change.wish.setting().cloned();
                let setting = setting.map(|setting| (change.link, setting));
                network.settings.extend(setting);
            }
        });
        Box::pin(async { Ok(true) })
    }

    fn set_general(&self, setting: GeneralSetting) -> Asked<'_, ()> {
        self.change(|snapshot| {
            let network = &mut snapshot.status.network;
            match setting {
                GeneralSetting::Lan(lan) => network.lan = lan,
                GeneralSetting::Time(time) => network.time = time,
            }
        });
        Box::pin(async { Ok(()) })
    }

    fn undo_network(&self) -> Asked<'_, ()> {
        self.change(|snapshot| snapshot.status.network.change = None);
        Box::pin(async { Ok(()) })
    }

    fn setup_code(&self) -> Option<String> {
        Some("demo".to_owned())
    }
}

fn snapshot(well: bool) -> Snapshot {
    let uptime = webui::metrics::uptime();
    let mut status = BoxStatus {
        hostname: "otter-lantern".to_owned(),
        version: "0.1.0".to_owned(),
        kernel: "6.12.57+deb13-amd64".to_owned(),
        uptime,
        boot: boot(well),
        roles: ["front", "manager", "logd"].map(role).to_vec(),
        data: DataState::Mounted {
            total: 931 << 30,
            free: 402 << 30,
        },
        net: net(),
        notices: vec![notice(
            NoticeLevel::Info,
            "The clock was set from the network.",
        )],
        ..BoxStatus::default()
    };
    status.network.findings = [
        ("cable", Verdict::Works, "eth0: a cable is there."),
        (
            "gateway",
            Verdict::Works,
            "192.168.1.1 answers, as 02:aa:bb:cc:dd:ee.",
        ),
        ("names", Verdict::Unknown, "192.168.1.1 is asked."),
    ]
    .map(|(about, verdict, evidence)| Finding {
        about: about.to_owned(),
        verdict,
        evidence: evidence.to_owned(),
    })
    .to_vec();
    if !well {
        status.notices.push(notice(
            NoticeLevel::Care,
            "The watchdog does not answer to its time-out.",
        ));
        status.guard.events.push(GuardEvent {
            at: Duration::from_millis(8_412),
            role: "manager".to_owned(),
            generation: 1,
            replaced: true,
            why: "its pool ran no task, and its workers sleep".to_owned(),
            silence: Duration::from_millis(1_112),
            threads: (0..4)
                .map(|n| format!("{} worker-{n} S futex_do_wait 120 ms", 61 + n))
                .collect(),
        });
    }
    Snapshot {
        status,
        services: services(well),
    }
}

fn notice(level: NoticeLevel, text: &str) -> Notice {
    Notice {
        level,
        text: text.to_owned(),
    }
}

fn boot(well: bool) -> Vec<StepReport> {
    let done = |name: &str, began, took| StepReport {
        name: name.to_owned(),
        began: Duration::from_millis(began),
        outcome: StepOutcome::Done(Duration::from_millis(took)),
    };
    let mut steps = vec![
        done("mounts", 310, 4),
        done("modules", 316, 180),
        done("root", 500, 240),
        done("network", 760, 1120),
        done("data", 820, 460),
        done("manager", 1300, 90),
    ];
    if !well {
        steps[3].outcome = StepOutcome::Failed {
            after: Duration::from_millis(1120),
            why: "No DHCP server answered on eth1.".to_owned(),
            consequence: "The box goes on with a link-local address and asks again.".to_owned(),
        };
    }
    let skipped = StepOutcome::Skipped("This board has no LED.".to_owned());
    let began = Duration::from_millis(1392);
    steps.push(StepReport {
        name: "led".to_owned(),
        began,
        outcome: skipped,
    });
    steps
}

fn role(name: &str) -> UnitInfo {
    UnitInfo {
        unit: name.parse().expect("a role's name is a unit's"),
        state: UnitState::Running,
        pid: Some(42),
        generation: 1,
        spec_hash: [0; 32],
        restarts: u32::from(name == "front"),
        since: Duration::from_secs(9 * 3600),
    }
}

fn net() -> NetSummary {
    let link = |name: &str, carrier, addresses, origin: &str| LinkSummary {
        name: name.to_owned(),
        mac: "52:54:00:12:34:56".to_owned(),
        carrier,
        addresses,
        origin: origin.to_owned(),
    };
    NetSummary {
        links: vec![
            link(
                "eth0",
                true,
                vec![([192, 168, 1, 20].into(), 24)],
                "DHCP from 192.168.1.1, renewed in 11 h",
            ),
            link("eth1", false, Vec::new(), ""),
        ],
        gateway: Some([192, 168, 1, 1].into()),
        dns: vec![[192, 168, 1, 1].into()],
    }
}

fn services(well: bool) -> Vec<ServiceView> {
    let service = |id: &str, title: &str, state, why: Option<&str>, hours: u64| ServiceView {
        id: id.to_owned(),
        title: title.to_owned(),
        version: "2.1.0".to_owned(),
        state,
        why: why.map(str::to_owned),
        since: Some(Duration::from_secs(hours * 3600 + 240)),
        restarts: 0,
        interfaces: vec![Interface {
            name: "Web".to_owned(),
            port: Some(8443),
            path: "/".to_owned(),
        }],
    };
    let trouble = Some("It ended (exit code 1) 3 times in a row: the database is missing.");
    let failing = if well {
        ServiceState::Running
    } else {
        ServiceState::Failing
    };
    vec![
        service("photos", "Photos", ServiceState::Running, None, 216),
        service(
            "passwords",
            "Passwords",
            failing,
            trouble.filter(|_| !well),
            0,
        ),
        service(
            "calendar",
            "Calendar",
            ServiceState::Starting,
            Some("Waits for its database."),
            0,
        ),
        service("wiki", "Wiki", ServiceState::Stopped, None, 30),
    ]
}
