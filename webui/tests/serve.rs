//! The dashboard over its real sockets, with a real HTTP and WebSocket client and a made-up host.

mod client;
mod fake;

use client::{Client, Dashboard};
use fake::CODE;
use hyper::StatusCode;
use serde_json::{Value, json};

fn call(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

#[tokio::test]
async fn every_reply_keeps_the_page_to_itself() {
    let dashboard = Dashboard::start();
    for path in ["/", "/api", "/nothing", "/assets/nothing.js", "/ws"] {
        let reply = dashboard.network().get(path, &[]).await;
        let policy = reply.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn the_page_is_asked_for_anew_and_its_files_never() {
    let dashboard = Dashboard::start();
    let page = dashboard.network().get("/", &[]).await;
    assert_eq!(
        (page.status, page.header("cache-control")),
        (StatusCode::OK, "no-cache")
    );
    let html = page.text();
    let script = html
        .split('"')
        .find(|part| part.ends_with("/main.js"))
        .unwrap();

    let file = dashboard
        .network()
        .get(script, &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(
        file.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(file.header("content-encoding"), "gzip");
    assert!(file.header("cache-control").contains("immutable"));

    let again = dashboard
        .network()
        .get("/", &[("if-none-match", page.header("etag"))])
        .await;
    assert_eq!(
        (again.status, again.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
}

#[tokio::test]
async fn what_is_not_there_is_never_the_page() {
    let dashboard = Dashboard::start();
    for path in [
        "/assets/",
        "/assets/0000000000000000/main.js",
        "/assets/../",
        "/index.html",
    ] {
        let reply = dashboard.network().get(path, &[]).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!reply.text().contains("<html"), "{path}");
    }
}

#[tokio::test]
async fn reading_is_open_and_changing_needs_the_code() {
    let right = format!("Bearer {CODE}");
    let none = json!({});
    let demo = json!({ "id": "demo" });
    let off = json!({ "how": "poweroff" });
    let front = json!({ "role": "front" });
    let automatic = json!({ "link": "eth0", "mode": "automatic" });
    let token = json!({ "token": "ab" });
    let general = json!({ "lan": true, "time": null });
    for (method, params, changes) in [
        ("box.status", &none, false),
        ("box.metrics", &none, false),
        ("logs.tail", &none, false),
        ("service.list", &none, false),
        ("net.status", &none, false),
        ("net.set", &automatic, true),
        ("net.general", &general, true),
        ("net.confirm", &token, true),
        ("net.rollback", &none, true),
        ("service.start", &demo, true),
        ("service.stop", &demo, true),
        ("service.restart", &demo, true),
        ("box.power", &off, true),
        ("role.restart", &front, true),
        ("setup.check", &none, true),
    ] {
        for (authorization, may) in [
            (None, !changes),
            (Some("Bearer wrong"), !changes),
            (Some(right.as_str()), true),
        ] {
            // A box for each: wrong codes shall not add up to a throttled sender.
            let dashboard = Dashboard::start();
            let headers: Vec<_> = authorization
                .map(|a| ("authorization", a))
                .into_iter()
                .collect();
            let body = call(method, params);
            let reply = dashboard.network().post("/api", &headers, &body).await;
            let case = format!("{method} with {authorization:?}");
            assert_eq!(
                reply.json().get("result").is_some(),
                may,
                "{case}: {}",
                reply.text()
            );
            assert_eq!(reply.status == StatusCode::UNAUTHORIZED, !may, "{case}");
            let done = dashboard.host.done();
            assert_eq!(
                !done.is_empty(),
                changes && may && method != "setup.check",
                "{case}"
            );

            let local = dashboard.local().post("/api", &[], &body).await;
            assert!(
                local.json().get("result").is_some(),
                "{method} locally: {}",
                local.text()
            );
        }
    }
}

#[tokio::test]
async fn what_is_asked_is_what_is_done() {
    let dashboard = Dashboard::start();
    for (method, params) in [
        ("service.restart", json!({ "id": "demo" })),
        ("box.power", json!({ "how": "reboot" })),
        ("role.restart", json!({ "role": "logd" })),
    ] {
        let reply = dashboard
            .local()
            .post("/api", &[], &call(method, &params))
            .await;
        assert_eq!(reply.json()["result"], true, "{method}");
    }
    assert_eq!(
        dashboard.host.done(),
        ["restart demo", "power Reboot", "replace logd"]
    );
    for (method, params, says) in [
        ("service.stop", json!({ "id": "nobody" }), "no service"),
        ("role.restart", json!({ "role": "init" }), "The roles are"),
        ("box.power", json!({ "how": "explode" }), "Wrong parameters"),
        ("box.explode", json!({}), "There is no method"),
        ("logs.tail", json!({ "unit": "../x" }), "Wrong parameters"),
    ] {
        let reply = dashboard
            .local()
            .post("/api", &[], &call(method, &params))
            .await;
        let message = reply.json()["error"]["message"].clone();
        assert!(
            message.as_str().unwrap().contains(says),
            "{method}: {message}"
        );
    }
}

#[tokio::test]
async fn a_binary_for_pid_1_is_handed_on_whole_from_those_who_may() {
    let dashboard = Dashboard::start();
    let file = "x".repeat(300_000);
    let reply = dashboard.network().post("/upload/init", &[], "x").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(dashboard.host.done().is_empty());
    let reply = dashboard.local().post("/upload/init", &[], &file).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    assert_eq!(dashboard.host.done(), ["upgrade to 300000 bytes"]);
}

#[tokio::test]
async fn guessing_the_code_is_slow() {
    let dashboard = Dashboard::start();
    let body = call("setup.check", &json!({}));
    let try_with = async |code: &str, from: &str| {
        let headers = [("authorization", code), ("x-forwarded-for", from)];
        dashboard.network().post("/api", &headers, &body).await
    };
    let right = format!("Bearer {CODE}");
    for _ in 0..5 {
        let reply = try_with("Bearer wrong", "spoofed, 10.0.0.7").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    let reply = try_with(&right, "10.0.0.7").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert!((50..=60).contains(&reply.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(try_with(&right, "10.0.0.8").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_box_without_a_code_can_not_be_changed_from_the_network() {
    let dashboard = Dashboard::start();
    dashboard.host.forget_code();
    let headers = [("authorization", "Bearer ")];
    let reply = dashboard
        .network()
        .post("/api", &headers, &call("setup.check", &json!({})))
        .await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_site_can_send_nothing_through_a_browser() {
    let dashboard = Dashboard::start();
    let body = call("box.status", &json!({}));
    for (headers, status) in [
        (vec![("origin", "https://box.local")], StatusCode::OK),
        (
            vec![("origin", "https://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (
            vec![("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
    ] {
        let reply = dashboard.network().post("/api", &headers, &body).await;
        assert_eq!(reply.status, status, "{headers:?}");
    }
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(
        dashboard.network().upgrade(&foreign).await.err(),
        Some(StatusCode::FORBIDDEN)
    );
}

#[tokio::test]
async fn requests_are_bounded() {
    let dashboard = Dashboard::start();
    let reply = dashboard
        .local()
        .post("/api", &[], &"x".repeat(65 * 1024))
        .await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let plain = dashboard.local().get("/ws", &[]).await;
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED);
    let deleted = dashboard.local().send("DELETE", "/api", &[], "").await;
    assert_eq!(deleted.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_batch_is_answered_call_by_call_and_notifications_are_not() {
    let dashboard = Dashboard::start();
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "service.list" },
        { "jsonrpc": "2.0", "method": "box.status" },
        { "jsonrpc": "2.0", "id": "b", "method": "box.power", "params": { "how": "halt" } },
        7,
    ]);
    let reply = dashboard
        .network()
        .post("/api", &[], &batch.to_string())
        .await;
    let codes = reply.json();
    let codes = codes
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["error"]["code"]);
    assert_eq!(
        codes.collect::<Vec<_>>(),
        [&Value::Null, &json!(-32001), &json!(-32600)]
    );
    assert_eq!(dashboard.host.done(), [""; 0]);
}

#[tokio::test]
async fn the_description_names_what_can_be_called() {
    let dashboard = Dashboard::start();
    let described = dashboard.network().get("/api", &[]).await.json();
    for method in described["methods"].as_array().unwrap() {
        let body = call(method["name"].as_str().unwrap(), &json!({}));
        let reply = Client::post(&dashboard.local(), "/api", &[], &body)
            .await
            .json();
        assert_ne!(reply["error"]["code"], -32601, "{method}");
    }
}
