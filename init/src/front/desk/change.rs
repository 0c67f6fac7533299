//! A change of the network, kept by whoever reaches the box after it: a page with a button, behind a
//! link that only the client who asked for the change was given. Neither script nor cookie nor
//! manager is needed; PID 1 knows the token.
//!
//! To look at the page changes nothing, as programs open links before people do.

use netstack::door::escape;
use supervise::{control::Secret, network::NotConfirmed, status::BoxStatus};

use super::{
    Desk, locked,
    message::{Answer, Request},
    page,
};

/// Below which it is.
pub(super) const PATHS: &str = "/net/";

impl Desk {
    /// Answers a request for `path` below [`PATHS`].
    pub(super) fn answer_change(&self, request: &Request, path: &str) -> Answer {
        let token = path
            .strip_prefix("confirm/")
            .filter(|token| is_token(token));
        match (request.method.as_str(), path, token) {
            ("GET", _, Some(token)) => {
                let known = locked(&self.known);
                Answer::html(200, form(known.as_ref().map(|(status, _)| status), token))
            }
            ("POST", "confirm", _) if request.is_foreign => {
                page::trouble(403, "This was asked by another site’s page.")
            }
            ("POST", "confirm", _) => self.confirm(request),
            (_, "confirm", _) | (_, _, Some(_)) => {
                page::trouble(405, "This page is not to be had in that way.")
            }
            _ => page::trouble(404, "There is no such page."),
        }
    }

    fn confirm(&self, request: &Request) -> Answer {
        let Some(token) = request.field("token").filter(|token| is_token(token)) else {
            return page::trouble(400, "There was no token.");
        };
        match self.asking.confirm(request.from, Secret(token)) {
            Err(why) => page::trouble(503, &format!("It could not be kept: {why}.")),
            Ok(Ok(outlives_a_reboot)) => Answer::html(200, kept(outlives_a_reboot)),
            Ok(Err(why)) => {
                let status = match why {
                    NotConfirmed::Early(_) | NotConfirmed::Over(_) => 409,
                    NotConfirmed::Throttled { .. } => 429,
                    NotConfirmed::Wrong(_) => 403,
                };
                page::trouble(status, &why.to_string())
            }
        }
    }
}

/// As PID 1 writes them: in hexadecimal.
fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Asks whether the change is to be kept. `token` is known to be one.
fn form(status: Option<&BoxStatus>, token: &str) -> String {
    let waits = status.map(|status| (status, status.network.change.as_ref()));
    let what = match waits {
        Some((status, Some(change))) => format!(
            "You have reached {}, so its new settings work ({} is to be {}). If you do nothing, the \
             old ones come back by themselves.",
            escape(&status.hostname),
            escape(&change.link),
            escape(&change.wish.to_string())
        ),
        Some((status, None)) => format!(
            "You have reached {}. It may be that the change was kept or undone already.",
            escape(&status.hostname)
        ),
        None => "You have reached the server.".to_owned(),
    };
    let main = format!(
        "<h1>Keep the network’s new settings?</h1><p>{what}<form method=post action=/net/confirm>\
         <input type=hidden name=token value={token}><button>Keep these settings</button></form>"
    );
    page::document("Keep the network’s new settings?", &main)
}

fn kept(outlives_a_reboot: bool) -> String {
    let more = match outlives_a_reboot {
        true => "",
        false => {
            "The server could not write them down, though: after its next restart the old ones are \
             back. "
        }
    };
    let main = format!("<h1>The new settings are kept.</h1><p>{more}<a href=/>Go on</a>");
    page::document("The new settings are kept", &main)
}

#[cfg(test)]
mod tests {
    use supervise::network::{Change, LinkSetting, Wish};

    use super::*;

    #[test]
    fn the_page_says_what_is_kept_and_gives_it_a_button() {
        let mut status = BoxStatus {
            hostname: "otter".to_owned(),
            ..BoxStatus::default()
        };
        let token = "0123456789abcdef".repeat(2);
        assert!(form(Some(&status), &token).contains("kept or undone already"));
        status.network.change = Some(Change {
            link: "eth<0>".to_owned(),
            wish: Wish::Addresses(LinkSetting::Automatic),
            applied: true,
            until: std::time::Duration::ZERO,
        });
        let page = form(Some(&status), &token);
        assert!(page.contains("eth&lt;0&gt; is to be automatic"), "{page}");
        assert!(page.contains(&format!("value={token}><button>Keep")) && !page.contains("<script"));
    }

    #[test]
    fn what_is_no_token_is_none() {
        for wrong in ["", "<script>", &"g".repeat(32), &"é".repeat(16)] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }
}
