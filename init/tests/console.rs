//! The console on a real pseudo-terminal, with a PID 1 that is not one.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use init::console::{self, Host, Order};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use supervise::{
    control::Power,
    status::{BoxStatus, DataState, Notice, NoticeLevel, StepOutcome, StepReport},
    unit::{UnitInfo, UnitName, UnitState},
};

#[derive(Default)]
struct Fake {
    status: Mutex<Arc<BoxStatus>>,
    orders: Mutex<Vec<Order>>,
    shells: AtomicU32,
}

impl Fake {
    fn publish(&self, change: impl FnOnce(&mut BoxStatus)) {
        let mut status = self.status.lock().unwrap();
        let mut next = (**status).clone();
        change(&mut next);
        *status = Arc::new(next);
    }
}

impl Host for Fake {
    fn status(&self) -> Arc<BoxStatus> {
        Arc::clone(&self.status.lock().unwrap())
    }

    fn request(&self, order: Order) -> Result<String, String> {
        self.orders.lock().unwrap().push(order.clone());
        match order {
            Order::Stop(_) => Err("the manager is dead".to_owned()),
            Order::Network(_) | Order::Power(_) | Order::Restart(_) | Order::Start(_) => {
                Ok("It is being done.".to_owned())
            }
        }
    }

    fn setup_code(&self) -> Option<String> {
        Some("1234-5678".to_owned())
    }

    fn ca_pem(&self) -> Option<String> {
        None
    }

    /// Stands for a shell: says what it got, line by line as a cooked terminal gives them.
    fn shell(&self, tty: OwnedFd) -> Result<(), String> {
        self.shells.fetch_add(1, Ordering::Release);
        let mut tty = File::from(tty);
        let mut line = [0; 64];
        let n = tty.read(&mut line).map_err(|e| e.to_string())?;
        writeln!(
            tty,
            "the shell got {:?}",
            str::from_utf8(&line[..n]).unwrap()
        )
        .map_err(|e| e.to_string())
    }

    fn log_socket(&self) -> &Path {
        Path::new("/nonexistent/log.sock")
    }
}

/// The person at the terminal.
struct Person {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    host: Arc<Fake>,
}

impl Person {
    fn at_a_console_of(host: Fake) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let host = Arc::new(host);
        let theirs: Arc<dyn Host> = host.clone();
        console::spawn(&path, &theirs).unwrap();
        let keyboard = File::from(master);
        let mut glass = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = glass.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut person = Self {
            keyboard,
            screen,
            seen: String::new(),
            host,
        };
        person.sees("pilotlight> ");
        person
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, and forgets all up to it.
    fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("{text:?} is not on the screen, but {:?}", self.seen),
            }
        }
    }

    /// Types a command; gives what it shows.
    fn asks(&mut self, command: &str) -> String {
        self.types(&format!("{command}\r"));
        self.sees(&format!("{command}\r\n"));
        self.sees("pilotlight> ")
    }
}

fn unit(name: &str) -> UnitInfo {
    UnitInfo {
        unit: name.parse().unwrap(),
        state: UnitState::Running,
        pid: Some(42),
        generation: 1,
        spec_hash: [0; 32],
        restarts: 0,
        since: Duration::from_secs(7),
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn everything_answers_plainly_when_nothing_else_is_there() {
    let mut person = Person::at_a_console_of(Fake::default());
    assert!(person.asks("help").contains("poweroff"));
    assert!(person.asks("status").contains("without a name"));
    assert!(person.asks("services").contains("is known yet"));
    assert!(person.asks("net").contains("No network card"));
    assert!(person.asks("boot").contains("No step has begun"));
    assert!(person.asks("logs").contains("logd can't be reached"));
    assert!(person.asks("ca").contains("no certificate authority yet"));
    assert!(person.asks("version").contains("Pilotlight 0."));
    assert!(person.asks("setup-code").contains("1234-5678"));
    assert!(person.asks("stauts").contains("Is it `status`?"));
    assert!(person.asks("start").contains("Say which"));
    person.asks("disks");
    person.asks("dmesg -n 1");
}

#[test]
fn a_running_box_is_described_and_steered() {
    let fake = Fake::default();
    fake.publish(|status| {
        status.hostname = "attic".into();
        status.services = vec![unit("service-demo")];
        status.roles = vec![unit("front")];
        status.data = DataState::Mounted {
            total: 2 << 30,
            free: 1 << 30,
        };
    });
    let mut person = Person::at_a_console_of(fake);
    let status = person.asks("status");
    for said in [
        "on attic",
        "1.0 GiB of 2.0 GiB free",
        "demo running",
        "front running",
    ] {
        assert!(status.contains(said), "{said:?} is not in {status}");
    }
    person.types("rest\tdem\t\r");
    person.sees("It is being done.");
    assert!(
        person
            .asks("stop demo")
            .contains("Not done: the manager is dead")
    );
    assert!(person.asks("poweroff").contains("is going to switch off"));
    let demo = UnitName::service("demo").unwrap();
    let orders = [
        Order::Restart(demo.clone()),
        Order::Stop(demo),
        Order::Power(Power::PowerOff),
    ];
    assert_eq!(*person.host.orders.lock().unwrap(), orders);
}

#[test]
fn news_come_above_the_line_that_is_being_typed() {
    let mut person = Person::at_a_console_of(Fake::default());
    person.types("stat");
    person.sees("stat");
    person.host.publish(|status| {
        let outcome = StepOutcome::Done(Duration::from_millis(250));
        let began = Duration::from_secs(1);
        status.boot.push(StepReport {
            name: "mount-data".into(),
            began,
            outcome,
        });
        let text = "The disk is \x1b[31mfull.".to_owned();
        status.notices.push(Notice {
            level: NoticeLevel::Bad,
            text,
        });
    });
    person.sees("mount-data           done in 0.250 s\r\n");
    person.sees("broken: The disk is ?[31mfull.\r\n");
    person.sees("pilotlight> stat");
    person.types("us\r");
    person.sees("without a name");
}

#[test]
fn the_shell_gets_a_terminal_as_it_expects_and_the_console_comes_back() {
    let mut person = Person::at_a_console_of(Fake::default());
    person.types("shell\r");
    person.sees("comes back here.\r\n");
    let deadline = Instant::now() + PATIENCE;
    while person.host.shells.load(Ordering::Acquire) == 0 {
        assert!(Instant::now() < deadline, "no shell begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    person.types("lss\x7f\r");
    person.sees("the shell got \"ls\\n\"");
    person.sees("Back from the shell.");
    assert!(person.asks("version").contains("Pilotlight"));
}

#[test]
fn any_bytes_leave_the_console_answering() {
    let mut person = Person::at_a_console_of(Fake::default());
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..50)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 24) as u8
            })
            .collect();
        person.keyboard.write_all(&bytes).unwrap();
        while person.screen.try_recv().is_ok() {}
    }
    person.types("\x03\x03version\r");
    person.sees("Pilotlight 0.");
}
