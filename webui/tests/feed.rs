//! The WebSocket: a dump, then patches that make the current state; a slow reader loses nothing.

mod client;
mod fake;

use std::time::Duration;

use client::Dashboard;
use fake::Fake;
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Applies frames to what is known so far, as the page does.
#[derive(Default)]
struct Page {
    state: Value,
    seq: u64,
    dumps: u32,
    heartbeats: u32,
    log: Vec<Value>,
}

impl Page {
    fn take(&mut self, frame: &Value) {
        if frame.get("hb").is_some() {
            self.heartbeats += 1;
            assert!(frame["hb"]["poolAgeMs"].as_u64().unwrap() < 5000, "{frame}");
            return;
        }
        let seq = frame["seq"].as_u64().unwrap();
        if let Some(dump) = frame.get("dump") {
            self.state = dump.clone();
            self.dumps += 1;
        } else {
            assert_eq!(seq, self.seq + 1, "a change was lost");
            let ops = serde_json::from_value::<json_patch::Patch>(frame["ops"].clone()).unwrap();
            json_patch::patch(&mut self.state, &ops).unwrap();
        }
        self.seq = seq;
        self.log
            .extend(frame["log"].as_array().unwrap().iter().cloned());
    }

    fn restarts(&self) -> u64 {
        self.state["services"]["demo"]["restarts"]
            .as_u64()
            .unwrap_or_default()
    }
}

#[tokio::test]
async fn patches_make_the_current_state() {
    let dashboard = Dashboard::start();
    let mut socket = dashboard.network().upgrade(&[]).await.unwrap();
    let mut page = Page::default();
    for restarts in 1..=20 {
        dashboard
            .host
            .change(|snapshot| snapshot.services[0].restarts = restarts);
        let wanted = u64::from(restarts);
        while page.restarts() < wanted {
            page.take(&client::frame(&mut socket).await);
        }
        assert_eq!(page.restarts(), wanted);
    }
    assert_eq!(page.dumps, 1);
}

#[tokio::test]
async fn changes_reach_the_page_at_once_and_bursts_as_one() {
    let dashboard = Dashboard::start();
    let mut socket = dashboard.network().upgrade(&[]).await.unwrap();
    let mut page = Page::default();
    while page.dumps == 0 || page.state.is_null() {
        page.take(&client::frame(&mut socket).await);
    }
    let before = page.seq;
    for restarts in 1..=1000 {
        dashboard
            .host
            .change(|snapshot| snapshot.services[0].restarts = restarts);
    }
    while page.restarts() < 1000 {
        page.take(&client::frame(&mut socket).await);
    }
    assert!(
        page.seq - before < 20,
        "{} frames for one burst",
        page.seq - before
    );
}

#[tokio::test]
async fn heartbeats_and_log_lines_come_by_themselves() {
    let dashboard = Dashboard::start();
    let mut socket = dashboard.network().upgrade(&[]).await.unwrap();
    let mut page = Page::default();
    dashboard.host.say("The first line.");
    while page.heartbeats < 2 || page.log.is_empty() {
        page.take(&client::frame(&mut socket).await);
    }
    dashboard.host.say("The second line.");
    while page.log.len() < 2 {
        page.take(&client::frame(&mut socket).await);
    }
    let said = page
        .log
        .iter()
        .map(|line| line["text"].as_str().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(said, ["The first line.", "The second line."]);
}

#[tokio::test]
async fn a_log_that_hangs_holds_up_nothing() {
    let dashboard = Dashboard::start();
    dashboard.host.lose_log();
    dashboard
        .host
        .change(|snapshot| snapshot.status.log.push("From PID 1.".to_owned()));
    let mut socket = dashboard.network().upgrade(&[]).await.unwrap();
    let mut page = Page::default();
    // A change comes while the log is waited for. On a busy machine it may do so a little too late;
    // if the log held it up, it always would.
    let mut tries = 1..=30;
    let held_up = |before: u64| dashboard.host.lost_log().1 > before;
    loop {
        let restarts = tries.next().expect("each change came after the log");
        let before = loop {
            let (asked, given_up) = dashboard.host.lost_log();
            if asked > given_up {
                break given_up;
            }
            page.take(&client::frame(&mut socket).await);
        };
        dashboard
            .host
            .change(|snapshot| snapshot.services[0].restarts = restarts);
        while page.restarts() < u64::from(restarts) {
            page.take(&client::frame(&mut socket).await);
        }
        if !held_up(before) {
            break;
        }
    }
    while page.log.is_empty() {
        page.take(&client::frame(&mut socket).await);
    }
    assert_eq!(page.log[0]["text"], "From PID 1.");
}

#[tokio::test]
async fn a_box_of_which_nothing_is_known_is_not_called_well() {
    let status = json!({ "jsonrpc": "2.0", "id": 1, "method": "box.status" }).to_string();
    let unknown = Dashboard::with(Fake::unknown());
    let reply = unknown.network().post("/api", &[], &status).await;
    assert_eq!(reply.json()["result"], Value::Null);
    let mut socket = unknown.network().upgrade(&[]).await.unwrap();
    assert_eq!(client::frame(&mut socket).await["dump"], Value::Null);
}

#[tokio::test]
async fn a_page_that_lost_something_asks_for_all_of_it() {
    let dashboard = Dashboard::start();
    let mut socket = dashboard.network().upgrade(&[]).await.unwrap();
    let mut page = Page::default();
    page.take(&client::frame(&mut socket).await);
    socket
        .send(Message::text(json!({ "resync": true }).to_string()))
        .await
        .unwrap();
    while page.dumps < 2 {
        page.take(&client::frame(&mut socket).await);
    }
}

#[tokio::test]
async fn a_slow_reader_gets_a_dump_and_holds_up_nobody() {
    let dashboard = Dashboard::start();
    let mut slow = dashboard.network().upgrade(&[]).await.unwrap();
    let mut quick = dashboard.network().upgrade(&[]).await.unwrap();
    let (mut behind, mut ahead) = (Page::default(), Page::default());

    // Far more than a socket's buffers hold, and more changes than are kept.
    for round in 1..=60 {
        dashboard.host.change(|snapshot| {
            snapshot.services[0].restarts = round;
            snapshot.services[0].why = Some(
                char::from(b'a' + (round % 26) as u8)
                    .to_string()
                    .repeat(200_000),
            );
        });
        while ahead.restarts() < u64::from(round) {
            ahead.take(&client::frame(&mut quick).await);
        }
    }
    assert_eq!(ahead.dumps, 1);
    while behind.restarts() < 60 {
        behind.take(&client::frame(&mut slow).await);
    }
    assert!(behind.dumps >= 2, "the slow reader was sent every change");
    assert_eq!(behind.state, ahead.state);
}

#[tokio::test]
async fn sockets_that_end_make_room_for_unknowns() {
    let dashboard = Dashboard::start();
    for _ in 0..3 {
        let mut open = Vec::new();
        while let Ok(socket) = dashboard.network().upgrade(&[]).await {
            open.push(socket);
        }
        assert_eq!(open.len(), 64);
        drop(open);
        let freed = async {
            while dashboard.network().upgrade(&[]).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), freed).await.unwrap();
        // That one is gone before the next round counts.
        sleep(Duration::from_millis(200)).await;
    }
}
