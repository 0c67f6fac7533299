//! The content of the state: records of {tag, version, length, postcard}. A reader skips the tags
//! it does not know, and does without those whose version it does not; so an older PID 1 can take
//! over from a newer one and the other way round.

use serde::{Serialize, de::DeserializeOwned};

/// What a record is about. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// How far the boot is.
    Boot = 1,
    /// Listening sockets, logs, and what else is open for the box as a whole.
    Sockets = 2,
    /// The process table.
    Units = 3,
    /// Helpers under way.
    Jobs = 4,
    /// All else that `main` knows.
    Settled = 5,
    /// An upgrade to another binary.
    Upgrade = 6,
    /// Fronts that finish what they have begun.
    Retiring = 7,
    /// Ports that are forwarded to services.
    Forwards = 8,
    /// The name server's sockets and services' names.
    Names = 9,
    /// The network's settings, and the change of them that waits.
    Network = 10,
}

/// The versions of the whole that this binary reads, oldest and newest. It writes them all, each
/// record in each of its versions, so that an older binary can be gone back to at any time.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Appends a record.
///
/// # Errors
/// When the value has no postcard form (a map of unknown length, say).
pub fn push<T: Serialize>(
    state: &mut Vec<u8>,
    tag: Tag,
    version: u16,
    value: &T,
) -> Result<(), postcard::Error> {
    let begin = state.len();
    state.extend_from_slice(&(tag as u16).to_ne_bytes());
    state.extend_from_slice(&version.to_ne_bytes());
    state.extend_from_slice(&[0; 4]);
    let body = state.len();
    // Through a plain vector: postcard extends it, and hands it back.
    match postcard::to_extend(value, std::mem::take(state)) {
        Ok(extended) => *state = extended,
        Err(e) => return Err(e),
    }
    let length = u32::try_from(state.len() - body).unwrap_or(u32::MAX);
    state[begin + 4..begin + 8].copy_from_slice(&length.to_ne_bytes());
    Ok(())
}

/// Reads the record with this tag, if there is one in this version that makes sense.
pub fn read<T: DeserializeOwned>(state: &[u8], tag: Tag, version: u16) -> Option<T> {
    let mut rest = state;
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [t0, t1, v0, v1, l0, l1, l2, l3] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let (body, next) = after.split_at_checked(length)?;
        if u16::from_ne_bytes([t0, t1]) == tag as u16
            && u16::from_ne_bytes([v0, v1]) == version
            && let Ok(value) = postcard::from_bytes(body)
        {
            return Some(value);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_by_tag_and_version() {
        let mut state = Vec::new();
        push(&mut state, Tag::Boot, 1, &"boot").unwrap();
        push(&mut state, Tag::Units, 2, &vec![1_u32, 2]).unwrap();
        assert_eq!(read::<Vec<u32>>(&state, Tag::Units, 2).unwrap(), vec![1, 2]);
        assert_eq!(read::<String>(&state, Tag::Boot, 1).unwrap(), "boot");
        assert_eq!(read::<String>(&state, Tag::Boot, 2), None);
        assert_eq!(read::<String>(&state, Tag::Jobs, 1), None);
    }

    #[test]
    fn of_two_versions_each_reader_takes_its_own() {
        let mut state = Vec::new();
        push(&mut state, Tag::Boot, 2, &7_u64).unwrap();
        push(&mut state, Tag::Boot, 1, &"old").unwrap();
        assert_eq!(read::<String>(&state, Tag::Boot, 1).unwrap(), "old");
        assert_eq!(read::<u64>(&state, Tag::Boot, 2), Some(7));
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_no_record(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = read::<Vec<String>>(&bytes, Tag::Boot, 1);
        }
    }
}
