//! What is ambiguous, slow or too much is refused, and others are served meanwhile.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use netstack::door::{Limits, RouteKind};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::{
    client::{self, Client},
    open::{Door, nobody, until},
    upstream::Upstream,
};

#[test]
fn smuggled_requests_reach_no_service() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let start = "POST / HTTP/1.1\r\nHost: demo.otter.local\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n";
    for (fields, status) in [
        (
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
        ("Content-Length: 0, 44\r\n\r\n", 400),
        ("Content-Length: +0\r\n\r\n", 400),
        ("Content-Length : 0\r\n\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n\r\n", 501),
        (
            "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n",
            501,
        ),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n", 400),
        ("Transfer-Encoding\x0b: chunked\r\n\r\n", 400),
        ("X: y\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("X: y\r\n\nContent-Length: 0\r\n\r\n", 400),
        ("X: \0\r\n\r\n", 400),
    ] {
        let mut client = door.client();
        client
            .send(format!("{start}{fields}{smuggled}").as_bytes())
            .unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, status, "{fields:?}");
        assert_eq!(answer.fields["connection"], "close");
        assert!(client.is_closed(), "{fields:?}");
    }
    assert!(demo.heads.lock().unwrap().is_empty());
    door.close();
}

#[test]
fn bad_chunks_end_the_connection_and_what_follows_them() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n";
    for chunks in [
        "5\r\nhelloX\r\n",
        "0x1\r\nx\r\n",
        "2\nhi\r\n0\r\n\r\n",
        "1;\x01\r\nx\r\n",
    ] {
        let mut client = door.client();
        let head = "POST / HTTP/1.1\r\nHost: demo.otter.local\r\nTransfer-Encoding: chunked\r\n";
        client
            .send(format!("{head}\r\n{chunks}{smuggled}").as_bytes())
            .unwrap();
        assert_eq!(client.answer().unwrap().status, 400, "{chunks:?}");
        assert!(client.is_closed());
    }
    let heads = demo.heads.lock().unwrap();
    assert!(heads.iter().all(|head| !head.contains("smuggled")));
    drop(heads);
    door.close();
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let door = Door::with_demo(&nobody());
    let mut client = door.client();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: otter.local\r\nX: {}\r\n",
        "x".repeat(40_000)
    );
    client.send(head.as_bytes()).unwrap();
    assert_eq!(client.answer().unwrap().status, 431);
    let mut client = door.client();
    let fields: String = (0..101).map(|n| format!("X{n}: y\r\n")).collect();
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 431);
    door.close();
}

#[test]
fn who_sends_a_head_byte_by_byte_is_cut_and_others_are_served() {
    let demo = Upstream::friendly();
    let limits = Limits {
        head: Duration::from_millis(600),
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let (mut slow, mut other) = (door.client(), door.client());
    let began = Instant::now();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: demo.otter.local\r\nX: {}",
        "x".repeat(500)
    );
    for byte in request.bytes() {
        if slow.send(&[byte]).is_err() || began.elapsed() > Duration::from_millis(1500) {
            break;
        }
        assert_eq!(other.get("demo.otter.local", "/").unwrap().status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(slow.answer().unwrap().status, 408);
    assert!(slow.is_closed());
    door.close();
}

#[test]
fn who_stops_in_the_middle_of_a_handshake_is_cut() {
    // So little time that it has a door of its own: a good client might not make it.
    let limits = Limits {
        handshake: Duration::from_millis(600),
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &nobody(), limits);
    let mut silent = client::connect(door.https);
    silent.write_all(b"\x16\x03\x01").unwrap();
    assert!(Client::over(silent).is_closed());
    let mut probe = Client::plain(door.probe);
    assert_eq!(probe.get("a", "/health").unwrap().status, 200);
    door.close();
}

#[test]
fn one_address_can_not_fill_the_door() {
    let demo = Upstream::friendly();
    let limits = Limits {
        connections: 40,
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let greedy: Vec<TcpStream> = (0..60).map(|_| client::connect(door.https)).collect();
    // Another address gets in all the same, and so does the guard.
    until("the dashboard's host", || {
        let socket = from(Ipv4Addr::new(127, 0, 0, 2), door.https);
        let client = Client::tls_over(socket, "otter.local", door.ca.pem());
        client.is_ok_and(|mut client| {
            client
                .get("otter.local", "/health")
                .is_ok_and(|answer| answer.status == 200)
        })
    });
    assert_eq!(
        Client::plain(door.probe)
            .get("a", "/health")
            .unwrap()
            .status,
        200
    );
    drop(greedy);
    door.close();
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let demo = Upstream::friendly();
    let limits = Limits {
        connections: 40,
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = door.client();
        assert_eq!(client.get("demo.otter.local", "/").unwrap().status, 200);
        clients.push(client);
    }
    assert_eq!(
        clients
            .last_mut()
            .unwrap()
            .get("demo.otter.local", "/")
            .unwrap()
            .status,
        200
    );
    assert!(clients[0].get("demo.otter.local", "/").is_err());
    door.close();
}

#[test]
fn an_address_has_no_more_than_its_share() {
    let limits = Limits {
        per_address: 5,
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &nobody(), limits);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::plain(door.plain)).collect();
    for client in &mut clients {
        assert_eq!(client.get("a", "/health").unwrap().status, 200);
    }
    assert!(Client::plain(door.plain).is_closed());
    drop(clients);
    until("a free place", || {
        let mut client = Client::plain(door.plain);
        client.get("a", "/health").is_ok()
    });
    door.close();
}

#[test]
fn a_service_that_holds_its_requests_is_not_given_more_than_its_share() {
    let demo = Upstream::tcp(|mut connection| {
        connection.request().unwrap();
        thread::sleep(Duration::from_secs(60));
    });
    let limits = Limits {
        per_place: 3,
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let mut waiting: Vec<Client> = (0..3).map(|_| door.client()).collect();
    for client in &mut waiting {
        client
            .send(b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n")
            .unwrap();
    }
    until("the requests' arrival", || {
        demo.heads.lock().unwrap().len() == 3
    });
    let answer = door.client().get("demo.otter.local", "/").unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        String::from_utf8(answer.body)
            .unwrap()
            .contains("too many open requests")
    );
    door.close();
}

#[test]
fn half_a_client_hello_counts_as_memory() {
    let limits = Limits {
        bytes: 256 << 10,
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &nobody(), limits);
    let mut config = door.config.clone();
    config.routes[0].kind = RouteKind::PassThrough;
    door.configure(config);
    // A record that would be 16 KiB, of which 12 come.
    let mut half = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb".to_vec();
    half.resize(12 << 10, 0);
    let undecided: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut socket = client::connect(door.https);
            let _ = socket.write_all(&half);
            socket
        })
        .collect();
    until("the closing of the heaviest", || {
        let log = door.log.lock().unwrap();
        log.iter().any(|line| line.contains("took too much memory"))
    });
    drop(undecided);
    door.close();
}

/// A connection from another address of this machine.
fn from(address: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let socket = TcpStream::from(socket);
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket
}
