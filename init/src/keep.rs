//! What must be known before data is there, kept on the raw `keep` partition.
//!
//! The helper reads and writes the partition (two checksummed copies); here is what is in it.

use netstack::net::{AddressSecret, General, settings::Settings};
use serde::{Deserialize, Serialize};

/// The content of the `keep` partition. What is added comes behind it, so that each version reads
/// what another wrote: see [`Keep::from_bytes`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The host name.
    pub hostname: String,
    /// 32 lower-case hex digits (machine-id(5)).
    pub machine_id: String,
    /// Shown on the console; whoever knows it may set up and steer the box.
    pub setup_code: String,
    /// Seconds since 1970 that have certainly passed: the clock starts no earlier.
    pub clock_floor: u64,
    /// The door's leaf certificate and key (postcard of `netstack::door::Identity`).
    pub identity: Vec<u8>,
    /// The box's CA certificate as PEM.
    pub ca_pem: String,
    /// Mixed into the kernel's random numbers at the next boot.
    pub seed: Vec<u8>,
    /// How the network is set; behind all else.
    #[serde(skip)]
    pub network: KeptNetwork,
    /// What is set of the time and of names; behind that.
    #[serde(skip)]
    pub general: General,
}

/// How the network is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNetwork {
    /// What is settled.
    pub settings: Settings,
    /// Whether a change of it waited for its confirmation.
    pub unconfirmed: bool,
}

impl Keep {
    /// Reads what the helper found on the partition.
    ///
    /// # Errors
    /// When the bytes are no `Keep`: a damaged copy never gets here, so another version wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (mut keep, rest) = postcard::take_from_bytes::<Self>(bytes)?;
        if !rest.is_empty() {
            let (network, rest) = postcard::take_from_bytes(rest)?;
            keep.network = network;
            if !rest.is_empty() {
                keep.general = postcard::from_bytes(rest)?;
            }
        }
        Ok(keep)
    }

    /// The bytes to write.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = postcard::to_stdvec(self);
        let bytes = bytes.and_then(|bytes| postcard::to_extend(&self.network, bytes));
        let bytes = bytes.and_then(|bytes| postcard::to_extend(&self.general, bytes));
        bytes.expect("plain data always has a postcard form")
    }

    /// What the box's IPv6 addresses are made of: a secret of its own, as nobody may learn the machine
    /// id from what it is used for (machine-id(5)). None before there is a machine id.
    pub fn address_secret(&self) -> Option<AddressSecret> {
        let id = Some(self.machine_id.as_bytes()).filter(|id| id.len() == 32)?;
        let secret = blake3::derive_key("Pilotlight 2026 IPv6 stable addresses", id);
        secret.first_chunk().copied().map(AddressSecret::new)
    }

    /// Makes up what is missing. Returns whether anything was.
    pub fn complete(&mut self, default_name: &str, random: &[u8; 32]) -> bool {
        let before = self.clone();
        if !crate::cmdline::is_host_name(&self.hostname) {
            self.hostname = default_name.to_owned();
        }
        if self.machine_id.len() != 32 {
            self.machine_id = random[..16].iter().map(|b| format!("{b:02x}")).collect();
        }
        if self.setup_code.is_empty() {
            self.setup_code = setup_code(&random[16..26]);
        }
        *self != before
    }
}

/// Ten characters in two groups, 49 bits: read off a screen, typed once, throttled when guessed.
fn setup_code(random: &[u8]) -> String {
    let letters: String = random
        .iter()
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect();
    format!("{}-{}", &letters[..5], &letters[5..])
}

/// Without those that are mistaken for one another: 0 and o, 1, l and i.
const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut keep = Keep::default();
        assert!(keep.complete("pilotlight", &[7; 32]));
        assert_eq!(Keep::from_bytes(&keep.to_bytes()).unwrap(), keep);
    }

    #[test]
    fn the_network_s_settings_come_behind_what_older_versions_wrote_and_read() {
        let mut keep = Keep::default();
        keep.complete("otter", &[1; 32]);
        let old = postcard::to_stdvec(&keep).unwrap();
        assert_eq!(Keep::from_bytes(&old).unwrap(), keep);
        let link = ("eth0".to_owned(), netstack::net::Addressing::Unmanaged);
        keep.network.settings.extend([link]);
        keep.network.unconfirmed = true;
        let mut of_before = postcard::to_stdvec(&keep).unwrap();
        of_before.extend(postcard::to_stdvec(&keep.network).unwrap());
        assert_eq!(Keep::from_bytes(&of_before).unwrap(), keep);
        keep.general.lan = true;
        keep.general.time = Some(netstack::net::TimeServer::usual());
        let new = keep.to_bytes();
        assert_eq!(Keep::from_bytes(&new).unwrap(), keep);
        let read_by_old: Keep = postcard::from_bytes(&new).unwrap();
        assert_eq!(read_by_old.setup_code, keep.setup_code);
    }

    #[test]
    fn what_is_there_is_not_made_up_again() {
        let mut keep = Keep::default();
        keep.complete("otter", &[1; 32]);
        let first = keep.clone();
        assert!(!keep.complete("other", &[2; 32]));
        assert_eq!(keep, first);
    }

    #[test]
    fn the_secret_of_addresses_is_each_box_s_own_and_stays() {
        let secret = |random: u8| {
            let mut keep = Keep::default();
            assert_eq!(keep.address_secret(), None);
            keep.complete("otter", &[random; 32]);
            let again = Keep::from_bytes(&keep.to_bytes()).unwrap();
            assert_eq!(keep.address_secret(), again.address_secret());
            keep.address_secret().unwrap()
        };
        assert_ne!(secret(1), secret(2));
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(Keep::from_bytes(&[0xff; 20]).is_err());
    }

    #[test]
    fn setup_codes_are_two_groups_of_five() {
        let code = setup_code(&[0, 30, 31, 255, 5, 6, 7, 8, 9, 10]);
        assert_eq!((code.len(), code.as_bytes()[5]), (11, b'-'));
    }
}
