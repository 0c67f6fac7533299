//! What the owner sets of the time and of names. None of it can cut him off, so it holds at once and
//! need not be confirmed. Pure.

use serde::{Deserialize, Serialize};

use super::config::{Clock, TimeConfig, TimeServer};
use crate::names::DnsSettings;

/// The settings. The default is a box that just works, and serves nobody unasked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct General {
    /// Whether machines on the box's own networks may ask its name server.
    pub lan: bool,
    /// Whom to ask for the time beside those that DHCP names; `None` for the usual ones.
    pub time: Option<Vec<TimeServer>>,
}

/// Why a list of time servers is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitServers {
    /// One of them is none.
    #[error(transparent)]
    NoServer(#[from] super::config::NoTimeServer),
    /// There are too many.
    #[error("There may be at most {TIME_SERVERS_MAX} time servers. Leave some out.")]
    TooMany,
}

impl General {
    /// The time servers that these words name.
    ///
    /// # Errors
    /// With the first that names none, or when there are too many.
    pub fn time_servers(words: &[String]) -> Result<Vec<TimeServer>, UnfitServers> {
        if words.len() > TIME_SERVERS_MAX {
            return Err(UnfitServers::TooMany);
        }
        let servers = words.iter().map(|word| word.trim().parse());
        Ok(servers.collect::<Result<_, _>>()?)
    }

    /// What `net` is told of the time. `default` is for an owner who has set nothing.
    pub fn time_config(&self, default: &[TimeServer], clock: Clock) -> TimeConfig {
        let servers = self.time.as_deref().unwrap_or(default);
        let is_left_to_us = self.time.is_none() && default.is_empty();
        TimeConfig {
            servers: servers.to_vec(),
            fallback: match is_left_to_us {
                true => TimeServer::usual(),
                false => Vec::new(),
            },
            clock,
        }
    }

    /// What the name server is told.
    pub fn dns(&self) -> DnsSettings {
        DnsSettings {
            lan: self.lan,
            ..DnsSettings::default()
        }
    }
}

/// As many as are asked at once.
const TIME_SERVERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_servers_are_for_those_who_set_none() {
        let mut general = General::default();
        let own = [TimeServer::Name("time.example".to_owned())];
        let config = |general: &General, default: &[TimeServer]| {
            let config = general.time_config(default, Clock::Kernel);
            (config.servers, config.fallback)
        };
        assert_eq!(config(&general, &[]), (Vec::new(), TimeServer::usual()));
        assert_eq!(config(&general, &own), (own.to_vec(), Vec::new()));
        general.time = Some(Vec::new());
        assert_eq!(config(&general, &own), (Vec::new(), Vec::new()));
        general.time = Some(own.to_vec());
        assert_eq!(config(&general, &[]), (own.to_vec(), Vec::new()));
    }

    #[test]
    fn words_that_name_no_servers_are_refused_with_what_is_wrong() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            General::time_servers(&words)
        };
        assert_eq!(read(&["192.0.2.1", " time.example "]).unwrap().len(), 2);
        assert_eq!(read(&[]), Ok(Vec::new()));
        let why = read(&["192.0.2.1", "no server"]).unwrap_err().to_string();
        assert!(why.contains("\"no server\" is no time server"), "{why}");
        assert_eq!(read(&["a"; 9]), Err(UnfitServers::TooMany));
    }
}
