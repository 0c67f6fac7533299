//! Requests and answers arrive whole, both ways, whatever their form.

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use netstack::door::{self, DoorConfig, Limits, RouteKind};

use crate::{
    client::{self, Client},
    open::{Door, Folder, nobody, until},
    upstream::Upstream,
};

#[test]
fn many_requests_share_one_connection_on_each_side() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    for n in 0..100 {
        let answer = client.get("demo.otter.local", &format!("/{n}")).unwrap();
        assert_eq!(
            (answer.status, answer.body),
            (200, format!("GET /{n} ").into_bytes())
        );
    }
    assert_eq!(demo.count(), 1);
    let heads = demo.heads.lock().unwrap();
    for line in [
        "Host: demo.otter.local\r\n",
        "Forwarded: for=127.0.0.1;host=\"demo.otter.local\";proto=https\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-Proto: https\r\n",
    ] {
        assert!(
            heads[0].contains(line),
            "{line:?} is missing in {}",
            heads[0]
        );
    }
    drop(heads);
    door.close();
}

#[test]
fn host_names_and_ports_lead_to_their_places() {
    let folder = Folder::new("places");
    let dashboard = Upstream::unix(&folder.0.join("dashboard"), |mut connection| {
        while connection.request().is_some() {
            connection.answer("200 OK", "dashboard");
        }
    });
    let demo = Upstream::friendly();
    let door = Door::open(&dashboard.at, &demo.at, Limits::default());
    let mut client = door.client();
    assert_eq!(client.get("otter.local", "/").unwrap().body, b"dashboard");
    assert_eq!(
        client.get("127.0.0.1:8443", "/").unwrap().body,
        b"dashboard"
    );
    assert_eq!(client.get("demo.localhost", "/").unwrap().body, b"GET / ");
    let unknown = client.get("music.otter.local", "/").unwrap();
    assert_eq!(unknown.status, 404);
    assert!(String::from_utf8(unknown.body).unwrap().contains("music"));
    assert_eq!(client.get("evil.example", "/").unwrap().status, 421);
    let mut own = Client::tls(door.own_port, "127.0.0.1", door.ca.pem()).unwrap();
    assert_eq!(
        own.get("127.0.0.1:8443", "/own").unwrap().body,
        b"GET /own "
    );
    door.close();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let request = |n| format!("GET /{n} HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n");
    client
        .send((0..20).map(request).collect::<String>().as_bytes())
        .unwrap();
    for n in 0..20 {
        assert_eq!(
            client.answer().unwrap().body,
            format!("GET /{n} ").into_bytes()
        );
    }
    door.close();
}

#[test]
fn bodies_of_every_framing_arrive_whole() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let head = "POST / HTTP/1.1\r\nHost: demo.otter.local\r\n";
    for size in [0, 1, 1000, 300_000] {
        let text = "x".repeat(size);
        let request = format!("{head}Content-Length: {size}\r\n\r\n{text}");
        client.send(request.as_bytes()).unwrap();
        assert_eq!(
            client.answer().unwrap().body,
            format!("POST / {text}").into_bytes()
        );
        let chunk = if size == 0 {
            String::new()
        } else {
            format!("{size:x}\r\n{text}\r\n")
        };
        let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        assert_eq!(
            client.answer().unwrap().body,
            format!("POST / {text}").into_bytes()
        );
    }
    door.close();
}

#[test]
fn answers_of_every_framing_arrive_whole() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(request) = connection.request() {
            match request.path.as_str() {
                "/chunked" => connection.say(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                     5\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n",
                ),
                "/empty" => connection.say("HTTP/1.1 204 No Content\r\n\r\n"),
                "/same" => connection.say("HTTP/1.1 304 Same\r\nContent-Length: 99\r\n\r\n"),
                "/hint" => connection.say(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                     HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                ),
                "/head" => connection.say("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
                _ => {
                    connection.say("HTTP/1.0 200 OK\n\nuntil the end");
                    return;
                }
            }
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let host = "demo.otter.local";
    assert_eq!(client.get(host, "/chunked").unwrap().body, b"hello world");
    assert_eq!(client.get(host, "/empty").unwrap().status, 204);
    assert_eq!(client.get(host, "/same").unwrap().status, 304);
    assert_eq!(client.get(host, "/hint").unwrap().status, 103);
    assert_eq!(client.answer().unwrap().body, b"ok");
    client
        .send(b"HEAD /head HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n")
        .unwrap();
    let (status, fields) = client.head().unwrap();
    assert_eq!((status, fields["content-length"].as_str()), (200, "12345"));
    assert_eq!(demo.count(), 1);
    let last = client.get(host, "/old").unwrap();
    assert_eq!(
        (last.body, last.fields["connection"].as_str()),
        (b"until the end".into(), "close")
    );
    assert!(client.is_closed());
    door.close();
}

#[test]
fn a_slow_reader_holds_back_the_service_and_loses_nothing() {
    const SIZE: usize = 40 * 1024 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let demo = Upstream::tcp(move |mut connection| {
        connection.request().unwrap();
        connection.say(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"
        ));
        for start in (0..SIZE).step_by(1 << 16) {
            let piece: Vec<u8> = (start..start + (1 << 16))
                .map(|at| (at / 997) as u8)
                .collect();
            if connection.writer.write_all(&piece).is_err() {
                return;
            }
            counted.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    client
        .send(b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n")
        .unwrap();
    client.head().unwrap();
    until("the service's standstill", || {
        let before = sent.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        before > 0 && before == sent.load(Ordering::SeqCst)
    });
    let held = sent.load(Ordering::SeqCst);
    assert!(held < SIZE / 2, "{held} bytes were taken that nobody reads");
    for start in (0..SIZE).step_by(1 << 20) {
        let piece = client.exactly(1 << 20).unwrap();
        let whole = piece
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == ((start + at) / 997) as u8);
        assert!(whole, "damaged at {start}");
    }
    door.close();
}

#[test]
fn a_slow_service_holds_back_the_upload_and_gets_all_of_it() {
    const SIZE: usize = 32 * 1024 * 1024;
    let demo = Upstream::tcp(|mut connection| {
        connection.head().unwrap();
        thread::sleep(Duration::from_millis(500));
        let (mut got, mut piece) = (0, vec![0; 1 << 16]);
        while got < SIZE {
            let count = connection.read(&mut piece);
            let whole = (0..count).all(|at| piece[at] == ((got + at) / 991) as u8);
            assert!(whole && count > 0);
            got += count;
        }
        connection.answer("200 OK", &got.to_string());
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let head =
        format!("PUT / HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: {SIZE}\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    for start in (0..SIZE).step_by(1 << 16) {
        let piece: Vec<u8> = (start..start + (1 << 16))
            .map(|at| (at / 991) as u8)
            .collect();
        client.send(&piece).unwrap();
    }
    assert_eq!(client.answer().unwrap().body, SIZE.to_string().into_bytes());
    door.close();
}

#[test]
fn a_web_socket_is_a_tunnel_both_ways() {
    let demo = Upstream::tcp(|mut connection| {
        let head = connection.head().unwrap();
        assert!(
            head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            "{head}"
        );
        connection.say(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: x\r\n\r\nfirst",
        );
        let mut piece = [0; 1000];
        loop {
            match connection.read(&mut piece) {
                0 => break connection.say("over"),
                count => connection.writer.write_all(&piece[..count]).unwrap(),
            }
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    client
        .send(
            b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\nConnection: keep-alive, Upgrade\r\n\
              Upgrade: websocket\r\nSec-WebSocket-Key: y\r\n\r\n",
        )
        .unwrap();
    assert_eq!(client.head().unwrap().1["sec-websocket-accept"], "x");
    assert_eq!(client.exactly(5).unwrap(), b"first");
    for n in 0..200_u32 {
        let frame = n.to_be_bytes().repeat(500);
        client.send(&frame).unwrap();
        assert_eq!(client.exactly(frame.len()).unwrap(), frame);
    }
    drop(client);
    door.close();
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let demo = Upstream::tcp(|mut connection| {
        assert!(connection.head().unwrap().contains("Expect: 100-continue"));
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        let mut body = [0; 5];
        assert_eq!(connection.read(&mut body), 5);
        connection.answer("200 OK", "thanks");
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    client
        .send(
            b"POST / HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: 5\r\n\
              Expect: 100-continue\r\n\r\n",
        )
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 100);
    client.send(b"hello").unwrap();
    assert_eq!(client.answer().unwrap().body, b"thanks");
    door.close();
}

#[test]
fn the_plain_port_redirects_and_gives_certificate_and_health() {
    let door = Door::with_demo(&nobody());
    let mut client = Client::plain(door.plain);
    let redirect = client.get("localhost:18080", "/a?b=c").unwrap();
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.fields["location"], "https://localhost/a?b=c");
    let file = client.get("10.0.2.15", "/ca.crt").unwrap();
    assert_eq!(file.body, door.ca.pem().as_bytes());
    assert_eq!(file.fields["content-type"], "application/x-x509-ca-cert");
    let mut probe = Client::plain(door.probe);
    for client in [&mut client, &mut probe] {
        let health = client.get("127.0.0.1:7780", "/health").unwrap();
        let health: serde_json::Value = serde_json::from_slice(&health.body).unwrap();
        assert_eq!(health["ok"], true);
    }
    assert_eq!(probe.get("127.0.0.1:7780", "/").unwrap().status, 404);
    assert_eq!(client.get("a b", "/").unwrap().status, 400);
    door.close();
}

#[test]
fn two_hundred_clients_at_once_are_all_served() {
    let demo = Upstream::friendly();
    let door = Arc::new(Door::with_demo(&demo.at));
    let mut clients: Vec<Client> = (0..200).map(|_| door.client()).collect();
    for round in 0..5 {
        for client in &mut clients {
            let request = format!("GET /{round} HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n");
            client.send(request.as_bytes()).unwrap();
        }
        for client in &mut clients {
            assert_eq!(
                client.answer().unwrap().body,
                format!("GET /{round} ").into_bytes()
            );
        }
    }
    drop(clients);
    Arc::into_inner(door).unwrap().close();
}

#[test]
fn tls_is_passed_through_undeciphered_to_a_service_with_its_own_certificate() {
    let behind = Upstream::friendly();
    // A second door stands for a service that ends TLS itself.
    let service = Door::with_demo(&behind.at);
    let door = Door::with_demo(&door::Upstream::Tcp(service.https));
    let mut config = door.config.clone();
    config.routes[0].kind = RouteKind::PassThrough;
    door.configure(config);
    let by_name = || Client::tls(door.https, "demo.otter.local", service.ca.pem());
    until("the new route", || by_name().is_ok());
    let mut client = by_name().unwrap();
    for n in 0..3 {
        let answer = client.get("demo.otter.local", &format!("/{n}")).unwrap();
        assert_eq!(answer.body, format!("GET /{n} ").into_bytes());
    }
    let mut on_port = Client::tls(door.own_port, "any.example", service.ca.pem());
    assert!(on_port.is_err(), "the certificate is not for that name");
    on_port = Client::tls(door.own_port, "127.0.0.1", service.ca.pem());
    assert_eq!(
        on_port
            .unwrap()
            .get("demo.otter.local", "/")
            .unwrap()
            .status,
        200
    );
    // Other names end here as before, and the service can't be had by their connections.
    let mut own = door.client();
    assert_eq!(own.get("otter.local", "/health").unwrap().status, 200);
    assert_eq!(own.get("demo.otter.local", "/").unwrap().status, 421);
    drop((client, own));
    door.close();
    service.close();
}

#[test]
fn clients_come_back_with_tickets_even_after_a_new_certificate() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let config = Arc::new(client::config(door.ca.pem(), &[]));
    let visit = || {
        let socket = client::connect(door.https);
        let mut client = Client::configured(socket, "otter.local", Arc::clone(&config)).unwrap();
        let health = client.get("otter.local", "/health").unwrap();
        String::from_utf8(health.body).unwrap()
    };
    assert!(visit().contains("\"handshakes\":1,\"resumed\":0"));
    assert!(visit().contains("\"handshakes\":2,\"resumed\":1"));
    let names = ["otter.local".to_owned()];
    let identity = door.ca.issue(&names, SystemTime::now()).unwrap();
    door.configure(DoorConfig {
        identity: Some(identity),
        ..door.config.clone()
    });
    assert!(visit().contains("\"handshakes\":3,\"resumed\":2"));
    door.close();
}
