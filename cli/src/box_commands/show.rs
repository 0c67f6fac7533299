//! The box's status document (`box.status`, see `webui`'s `Document`) as text.
//!
//! A field that is missing, as in another version's document, leaves a gap and nothing worse.

use std::fmt::Write as _;

use serde_json::Value;

use crate::told::{list, word};

/// The box at a glance.
pub(crate) fn status(document: &Value) -> String {
    let machine = &document["box"];
    let mut text = format!(
        "{}, Pilotlight {}, Linux {}\n",
        word(&machine["name"]),
        word(&machine["version"]),
        word(&machine["kernel"])
    );
    let data = &machine["data"];
    let space = match (data["free"].as_u64(), data["total"].as_u64()) {
        (Some(free), Some(total)) => format!(", {} of {} free", mib(free), mib(total)),
        _ => String::new(),
    };
    field(
        &mut text,
        "data",
        &format!("{}{space}", word(&data["word"])),
    );
    for link in list(&document["links"]) {
        let addresses: Vec<_> = list(&link["addresses"]).iter().map(word).collect();
        field(
            &mut text,
            "network",
            &format!("{} {}", word(&link["name"]), addresses.join(" ")),
        );
    }
    for role in list(&document["roles"]) {
        field(&mut text, &word(&role["name"]), &how(role));
    }
    for step in list(&document["boot"])
        .iter()
        .filter(|step| step["mark"] == "bad")
    {
        let why = format!("{} {}", word(&step["why"]), word(&step["consequence"]));
        field(
            &mut text,
            "boot",
            &format!("{} failed: {why}", word(&step["name"])),
        );
    }
    for need in list(&document["needs"]) {
        field(&mut text, "look at", &word(&need["text"]));
    }
    if let Some(way) = machine["goingDown"].as_str() {
        field(&mut text, "going down", way);
    }
    text + "\n" + &services(document)
}

/// The services, one a line.
pub(crate) fn services(document: &Value) -> String {
    let services = document["services"].as_object();
    let rows = services.into_iter().flatten().map(|(id, service)| {
        let title = format!("{} {}", word(&service["title"]), word(&service["version"]));
        format!("{id:<20} {:<30} {title}\n", how(service))
    });
    let text: String = rows.collect();
    if text.is_empty() {
        "No service is installed.\n".to_owned()
    } else {
        text
    }
}

/// What the guard saw of each role, and did about it.
pub(crate) fn guard(report: &Value) -> String {
    let mut text = String::new();
    for (role, counts) in report["counts"].as_object().into_iter().flatten() {
        let count = |step: &str| counts[step].as_u64().unwrap_or_default();
        let _ = writeln!(
            text,
            "{role:<10} silent {} times, replaced {}, held back {}",
            count("nudged"),
            count("replaced"),
            count("heldBack")
        );
    }
    for event in list(&report["events"]) {
        let done = match event["replaced"].as_bool() {
            Some(true) => ", replaced",
            _ => "",
        };
        let at = event["atMs"].as_u64().unwrap_or_default() / 1000;
        let _ = writeln!(
            text,
            "at {at} s  {} {}{done}: {}",
            word(&event["role"]),
            event["generation"].as_u64().unwrap_or_default(),
            word(&event["why"])
        );
        for thread in list(&event["threads"]) {
            let _ = writeln!(text, "    {}", word(thread));
        }
    }
    text
}

fn how(row: &Value) -> String {
    let mut text = word(&row["word"]);
    if let Some(why) = row["why"].as_str() {
        let _ = write!(text, ": {why}");
    }
    match row["restarts"].as_u64() {
        Some(restarts @ 1..) => text + &format!(" (started again {restarts} times)"),
        _ => text,
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<11} {}", value.trim_end());
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_box_is_told_in_a_few_lines() {
        let document = json!({
            "box": {
                "name": "attic", "version": "0.1.0", "kernel": "6.12",
                "data": { "word": "Mounted", "total": 2_147_483_648_u64, "free": 1_073_741_824 },
            },
            "links": [{ "name": "eth0", "addresses": ["10.0.2.15/24"] }],
            "roles": [{ "name": "front", "word": "Running", "restarts": 2 }],
            "boot": [{ "name": "modules", "mark": "ok" }],
            "needs": [{ "mark": "bad", "text": "The disk is \u{1b}[31mfull." }],
            "services": { "demo": { "title": "Demo", "version": "1.0", "word": "Failing", "why": "It ended." } },
        });
        let text = status(&document);
        for said in [
            "attic, Pilotlight 0.1.0, Linux 6.12\n",
            "data        Mounted, 1024 MiB of 2048 MiB free\n",
            "network     eth0 10.0.2.15/24\n",
            "front       Running (started again 2 times)\n",
            "look at     The disk is [31mfull.\n",
            "demo                 Failing: It ended.             Demo 1.0\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert!(
            !text.contains("modules"),
            "steps that went well are not worth a line\n{text}"
        );
    }

    #[test]
    fn a_document_of_another_shape_is_shown_as_far_as_it_goes() {
        for document in [
            json!(null),
            json!([]),
            json!({ "box": 7, "services": { "a": null } }),
        ] {
            assert!(status(&document).contains("Pilotlight"));
        }
        assert_eq!(services(&json!({})), "No service is installed.\n");
    }
}
