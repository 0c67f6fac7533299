//! What helpers answer: plain data, as JSON on one line.
//!
//! Whole answers stay below a pipe's 64 KiB, so that a helper never waits for its reader.

use serde::{Deserialize, Serialize};
use supervise::unit::UnitName;

/// `mount-data`: the data file system is there and writable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The device it is on.
    pub device: String,
    /// Bytes in all.
    pub total: u64,
    /// Bytes free to use.
    pub free: u64,
    /// Whether it was made just now.
    pub made: bool,
    /// What the owner should know, as sentences.
    pub notes: Vec<String>,
}

/// `unmount-data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmounted {
    /// Whether everything is on disk and nothing will have to be replayed.
    pub clean: bool,
    /// What was done, as a sentence.
    pub how: String,
    /// Processes that kept it busy, as `name (pid)`.
    pub holders: Vec<String>,
}

/// `probe-data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free to use.
    pub free: u64,
    /// How long the small write took to be on disk, in milliseconds.
    pub millis: u64,
    /// Whether data is, or was a moment ago, so full that the reserve was given back.
    pub reserve_is_given: bool,
}

/// `mount-root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The device it is on.
    pub device: String,
    /// Its file system's name.
    pub file_system: String,
}

/// `keep read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// What was last written whole; `None` when there is nothing, or nothing whole.
    #[serde(with = "hex")]
    pub payload: Option<Vec<u8>>,
    /// How often it was written.
    pub generation: u64,
    /// What is wrong with a copy, if anything is.
    pub note: Option<String>,
}

/// `keep write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepWritten {
    /// How often it was written.
    pub generation: u64,
}

/// `coldplug`, `modalias`, `load`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Modules that are new in the kernel, in order.
    pub loaded: Vec<String>,
    /// What failed, as sentences.
    pub failed: Vec<String>,
    /// Different kinds of devices seen (`coldplug`).
    pub devices: usize,
}

/// `disks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disks {
    /// The disks by name.
    pub disks: Vec<Disk>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name of it.
    pub name: String,
    /// What its maker calls it.
    pub model: String,
    /// How it is attached: `NVMe`, `SATA`, `USB`, ...
    pub transport: String,
    /// Size in bytes.
    pub bytes: u64,
    /// What is wrong with its partition table, if anything is.
    pub note: Option<String>,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The kernel's name of it.
    pub name: String,
    /// Its label.
    pub label: Option<String>,
    /// The GUID of its type, if the table could be read.
    pub kind: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
}

/// `candidate`: a file may be PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// BLAKE3 of the whole file, in hexadecimal.
    pub hash: String,
    /// The key that it is signed with.
    pub signer: String,
    /// What it says its version is.
    pub version: String,
}

/// A new binary on trial: what it would take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Its version.
    pub version: String,
    /// The versions of the hand-over that it reads, oldest and newest.
    pub handover: (u16, u16),
    /// The units that it understands.
    pub units: Vec<UnitName>,
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let digits = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        bytes.as_ref().map(digits).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(digits) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let wrong = || D::Error::custom("a payload is not pairs of hexadecimal digits");
        if !digits.is_ascii() || digits.len() % 2 == 1 {
            return Err(wrong());
        }
        let pairs = digits.as_bytes().chunks_exact(2);
        pairs
            .map(|pair| {
                let text = std::str::from_utf8(pair).map_err(|_| wrong())?;
                u8::from_str_radix(text, 16).map_err(|_| wrong())
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_any_bytes_fits_on_a_line() {
        let keep = Keep {
            payload: Some((0..=255).collect()),
            generation: 3,
            note: None,
        };
        let line = serde_json::to_string(&keep).unwrap();
        assert!(!line.contains('\n') && line.is_ascii());
        assert_eq!(serde_json::from_str::<Keep>(&line).unwrap(), keep);
        let none = Keep {
            payload: None,
            ..keep
        };
        let line = serde_json::to_string(&none).unwrap();
        assert_eq!(serde_json::from_str::<Keep>(&line).unwrap(), none);
        let odd = r#"{"payload":"abc","generation":1,"note":null}"#;
        assert!(serde_json::from_str::<Keep>(odd).is_err());
    }
}
