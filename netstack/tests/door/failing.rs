//! Services that die, hang or lie cost their own requests only.

use std::{
    thread,
    time::{Duration, Instant},
};

use netstack::door::{Command, EmergencyView, Limits, LineState, RoleLine};

use crate::{
    client::Client,
    open::{Door, Folder, nobody, until},
    upstream::Upstream,
};

#[test]
fn a_manager_that_never_answers_gets_the_emergency_page_its_place() {
    let folder = Folder::new("silent");
    let dashboard = Upstream::unix(&folder.0.join("dashboard"), |mut connection| {
        connection.request().unwrap();
        thread::sleep(Duration::from_secs(60));
    });
    let demo = Upstream::friendly();
    let limits = Limits {
        dashboard_answer: Duration::from_millis(500),
        ..Limits::default()
    };
    let door = Door::open(&dashboard.at, &demo.at, limits);
    let view = EmergencyView {
        hostname: "otter".into(),
        control: RoleLine {
            state: LineState::Degraded,
            for_s: 134,
            ..RoleLine::default()
        },
        generation: 3,
        silent_ms: Some(134_000),
        data: "The data disk has not answered for 12 s.".into(),
        ..EmergencyView::default()
    };
    door.sender.send(Command::View(Box::new(view))).unwrap();
    let (mut owner, mut other) = (door.client(), door.client());
    owner
        .send(b"GET / HTTP/1.1\r\nHost: otter.local\r\n\r\n")
        .unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        assert_eq!(other.get("demo.otter.local", "/").unwrap().status, 200);
    }
    let answer = owner.answer().unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(
        (answer.status, answer.fields["retry-after"].as_str()),
        (503, "2")
    );
    assert!(
        text.contains("The control service has not answered for 2 min 14 s."),
        "{text}"
    );
    assert!(text.contains("href=/emergency"));
    let emergency = owner.get("otter.local", "/emergency").unwrap();
    let text = String::from_utf8(emergency.body).unwrap();
    assert!(emergency.status == 200 && text.len() <= 4096 && !text.contains("<script"));
    assert!(text.contains("The data disk has not answered for 12 s."));
    assert_eq!(owner.get("otter.local", "/health").unwrap().status, 200);
    let heartbeat = owner.get("otter.local", "/heartbeat").unwrap();
    let heartbeat: serde_json::Value = serde_json::from_slice(&heartbeat.body).unwrap();
    let manager = &heartbeat["manager"];
    assert_eq!(
        (&manager["state"], &manager["generation"]),
        (&"degraded".into(), &3.into())
    );
    let silent = manager["silentMs"].as_u64().unwrap();
    assert_eq!(silent, 134_000 + heartbeat["toldMs"].as_u64().unwrap());
    door.close();
}

#[test]
fn a_service_that_is_not_there_is_named() {
    let door = Door::with_demo(&nobody());
    let mut client = door.client();
    let answer = client.get("demo.otter.local", "/").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        text.contains("The service “demo” takes no connections at the moment."),
        "{text}"
    );
    let starting = RoleLine {
        name: "demo".into(),
        state: LineState::Starting,
        ..RoleLine::default()
    };
    let view = EmergencyView {
        services: vec![starting],
        ..EmergencyView::default()
    };
    door.sender.send(Command::View(Box::new(view))).unwrap();
    until("the new view", || {
        let answer = client.get("demo.otter.local", "/").unwrap();
        assert_eq!(
            (answer.status, answer.fields["retry-after"].as_str()),
            (503, "2")
        );
        String::from_utf8(answer.body)
            .unwrap()
            .contains("“demo” is starting")
    });
    door.close();
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(request) = connection.request() {
            match request.path.as_str() {
                "/length" => {
                    return connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
                }
                "/chunked" => {
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    return connection.say(&format!("{head}5\r\nhel"));
                }
                "/bad-chunk" => {
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    connection.say(&format!("{head}5\r\nhelloworld"));
                }
                "/head" => return connection.say("HTTP/1.1 200 O"),
                "/nonsense" => connection.say("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
                "/nothing" => return,
                _ => connection.answer("200 OK", "fine"),
            }
        }
    });
    let door = Door::with_demo(&demo.at);
    for path in ["/length", "/chunked", "/bad-chunk"] {
        let mut client = door.client();
        let error = client.get("demo.otter.local", path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{path}");
    }
    let mut client = door.client();
    for path in ["/head", "/nonsense", "/nothing"] {
        let answer = client.get("demo.otter.local", path).unwrap();
        assert_eq!(answer.status, 502, "{path}");
        assert_eq!(client.get("demo.otter.local", "/").unwrap().body, b"fine");
    }
    door.close();
}

#[test]
fn a_kept_connection_that_the_service_has_closed_costs_no_request() {
    let demo = Upstream::tcp(|mut connection| {
        // Closes without having said so: the door can't know before it has sent the next request.
        if let Some(request) = connection.request() {
            connection.answer("200 OK", &request.path);
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    for n in 0..300 {
        let path = format!("/{n}");
        assert_eq!(
            client.get("demo.otter.local", &path).unwrap().body,
            path.as_bytes()
        );
        let post = "POST /p HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: 1\r\n\r\nx";
        client.send(post.as_bytes()).unwrap();
        assert_eq!(client.answer().unwrap().body, b"/p");
    }
    door.close();
}

#[test]
fn a_service_that_answers_before_the_upload_is_over_is_heard() {
    let demo = Upstream::tcp(|mut connection| {
        connection.head().unwrap();
        connection.answer("413 Too Large", "no");
        thread::sleep(Duration::from_millis(300));
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    let head = "PUT / HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: 100000000\r\n\r\n";
    client.send(head.as_bytes()).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.body), (413, b"no".into()));
    assert_eq!(answer.fields["connection"], "close");
    door.close();
}

#[test]
fn a_service_that_hangs_is_given_up_after_its_time() {
    let demo = Upstream::tcp(|mut connection| {
        connection.request().unwrap();
        thread::sleep(Duration::from_secs(60));
    });
    let limits = Limits {
        answer: Duration::from_millis(300),
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let mut client = door.client();
    assert_eq!(client.get("demo.otter.local", "/").unwrap().status, 504);
    door.close();
}

#[test]
fn owners_are_passed_on_to_who_lets_them_in() {
    let folder = Folder::new("owners");
    let owners = Upstream::unix(&folder.0.join("owners"), |mut connection| {
        while let Some(request) = connection.request() {
            let body = String::from_utf8_lossy(&request.body);
            let text = format!("{} {} {body}", request.method, request.path);
            connection.answer("200 OK", &text);
        }
    });
    let door = Door::with_demo(&nobody());
    let mut client = door.client();
    let host = "otter.local";
    assert_eq!(client.get(host, "/emergency/owner").unwrap().status, 404);
    let form = "action=/emergency/in";
    let page = |client: &mut Client| {
        String::from_utf8(client.get(host, "/emergency").unwrap().body).unwrap()
    };
    assert!(!page(&mut client).contains(form));
    door.sender.send(Command::Owner(owners.at.clone())).unwrap();
    until("the form", || page(&mut client).contains(form));
    let post =
        "POST /emergency/in HTTP/1.1\r\nHost: otter.local\r\nContent-Length: 6\r\n\r\ncode=x";
    client.send(post.as_bytes()).unwrap();
    assert_eq!(client.answer().unwrap().body, b"POST /emergency/in code=x");
    // Nobody else's path leads there.
    let other = client.get("demo.otter.local", "/emergency/owner").unwrap();
    assert_eq!(other.status, 503);
    door.close();
}
