//! New routes and certificates, under load.

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use netstack::{
    ca::Authority,
    door::{Command, DoorConfig, Limits, SendError},
};

use crate::{
    client::Client,
    open::{Door, nobody, until},
    upstream::Upstream,
};

#[test]
fn routes_change_under_load_without_a_failure() {
    let (one, two) = (Upstream::friendly(), Upstream::friendly());
    let door = Door::with_demo(&one.at);
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, stop) = (door.client(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.get("demo.otter.local", "/x").unwrap();
                    assert_eq!((answer.status, answer.body), (200, b"GET /x ".to_vec()));
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..50 {
        let mut config = door.config.clone();
        let upstream = if round % 2 == 0 { &two.at } else { &one.at };
        config.routes[0].upstream = upstream.clone();
        let names = [format!("otter{round}.local"), "otter.local".into()];
        config.identity = Some(door.ca.issue(&names, SystemTime::now()).unwrap());
        door.configure(config);
        thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::SeqCst);
    let counts: Vec<u32> = workers
        .into_iter()
        .map(|worker| worker.join().unwrap())
        .collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(one.count() > 0 && two.count() > 0);
    door.close();
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_old_ones_go_on() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut old = door.client();
    let other = Authority::create("other", SystemTime::now()).unwrap();
    let names = ["otter.local".to_owned(), "::1".to_owned()];
    let config = DoorConfig {
        identity: Some(other.issue(&names, SystemTime::now()).unwrap()),
        ..door.config.clone()
    };
    door.configure(config);
    until("the new certificate", || {
        Client::tls(door.https, "otter.local", other.pem()).is_ok()
    });
    assert!(Client::tls(door.https, "otter.local", door.ca.pem()).is_err());
    assert_eq!(old.get("demo.otter.local", "/").unwrap().status, 200);
    door.close();
}

#[test]
fn a_port_that_is_given_up_refuses_and_others_go_on() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut own = Client::tls(door.own_port, "127.0.0.1", door.ca.pem()).unwrap();
    assert_eq!(own.get("127.0.0.1", "/").unwrap().status, 200);
    let config = DoorConfig {
        routes: Vec::new(),
        ..door.config.clone()
    };
    door.configure(config);
    until("the end of the route", || {
        own.get("127.0.0.1", "/").unwrap().status == 404
    });
    door.sender.send(Command::Close { port: 8443 }).unwrap();
    until("the end of the port", || {
        TcpStream::connect(door.own_port).is_err()
    });
    assert_eq!(
        door.client().get("otter.local", "/health").unwrap().status,
        200
    );
    door.close();
}

#[test]
fn a_damaged_certificate_changes_nothing_and_is_reported() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut config = door.config.clone();
    config.identity.as_mut().unwrap().key_der.truncate(20);
    door.configure(config);
    until("the report", || {
        let log = door.log.lock().unwrap();
        log.iter()
            .any(|line| line.contains("The former certificate is kept"))
    });
    assert_eq!(
        door.client().get("demo.otter.local", "/").unwrap().status,
        200
    );
    door.close();
}

#[test]
fn requests_under_way_are_finished_before_it_closes() {
    let demo = Upstream::tcp(|mut connection| {
        connection.request().unwrap();
        thread::sleep(Duration::from_millis(500));
        connection.answer("200 OK", "late");
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let _idle = door.client();
    client
        .send(b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n")
        .unwrap();
    until("the request's arrival", || {
        !demo.heads.lock().unwrap().is_empty()
    });
    let sender = door.sender.clone();
    door.close();
    assert_eq!(client.answer().unwrap().body, b"late");
    assert!(matches!(
        sender.send(Command::Shutdown),
        Err(SendError::Gone)
    ));
}

#[test]
fn a_door_that_closes_says_which_answer_is_the_last() {
    let may_answer = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&may_answer);
    let demo = Upstream::tcp(move |mut connection| {
        while connection.request().is_some() {
            until("the door's closing", || gate.load(Ordering::SeqCst));
            connection.answer("200 OK", "hello");
        }
    });
    let patient = Limits {
        drain: Duration::from_secs(120),
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, patient);
    let mut client = door.client();
    let request = b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n";
    client.send(&[&request[..], request].concat()).unwrap();
    until("the first request's arrival", || {
        !demo.heads.lock().unwrap().is_empty()
    });
    door.sender.send(Command::Shutdown).unwrap();
    until("the end of listening", || {
        TcpStream::connect(door.https).is_err()
    });
    may_answer.store(true, Ordering::SeqCst);
    let (first, last) = (client.answer().unwrap(), client.answer().unwrap());
    assert_eq!(first.fields.get("connection"), None, "it was under way");
    assert_eq!(last.fields["connection"], "close");
    assert_eq!(last.body, b"hello");
    door.thread.join().unwrap().unwrap();
}

#[test]
fn the_access_log_tells_of_requests_but_not_of_their_queries() {
    let demo = Upstream::friendly();
    let door = Door::open(&nobody(), &demo.at, Limits::default());
    let mut client = door.client();
    client.get("demo.otter.local", "/path?secret=1").unwrap();
    client.get("otter.local", "/health").unwrap();
    let log = door.log.lock().unwrap().clone();
    assert!(
        log[0].starts_with("127.0.0.1 demo GET /path 200 19 B"),
        "{log:?}"
    );
    assert!(
        log[1].starts_with("127.0.0.1 door GET /health 200"),
        "{log:?}"
    );
    door.close();
}
