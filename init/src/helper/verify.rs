//! Whether somebody knows the box's secret. Each try costs memory and time, in a process that is
//! allowed little of both, so that guessing is slow and a flood of guesses harms nobody.

use std::io::Read;

use argon2::{Algorithm, Argon2, Params, Version};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::HelperError;

/// What is looked at.
#[derive(Serialize, Deserialize)]
pub struct Attempt {
    /// What somebody typed.
    pub offered: String,
    /// The setup code, as the console shows it.
    pub code: String,
}

/// Whether the [`Attempt`] that `input` holds (postcard) is a good one.
pub(super) fn verify(mut input: impl Read) -> Result<bool, HelperError> {
    let failed = |e: &dyn std::fmt::Display| HelperError::Secret(e.to_string());
    let mut bytes = Vec::new();
    input
        .by_ref()
        .take(MAX_INPUT)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(&e))?;
    let attempt: Attempt = postcard::from_bytes(&bytes).map_err(|e| failed(&e))?;
    if normalised(&attempt.code).is_empty() {
        return Ok(false);
    }
    let mut salt = [0; 16];
    getrandom(&mut salt, GetRandomFlags::empty()).map_err(|e| failed(&e))?;
    let [offered, code] = [&attempt.offered, &attempt.code].map(|text| digest(text, &salt));
    let (offered, code) = (
        offered.map_err(|e| failed(&e))?,
        code.map_err(|e| failed(&e))?,
    );
    Ok(offered.ct_eq(&code).into())
}

fn digest(text: &str, salt: &[u8]) -> Result<[u8; 32], argon2::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32))?;
    let mut digest = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        normalised(text).as_bytes(),
        salt,
        &mut digest,
    )?;
    Ok(digest)
}

/// As people type it: in either case, with or without the dashes and spaces it is shown with.
fn normalised(code: &str) -> String {
    let shown = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    shown.flat_map(char::to_lowercase).collect()
}

/// What OWASP's password storage cheat sheet asks of argon2id at least; well within what the
/// helper's control group allows it.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// An attempt is two short texts.
const MAX_INPUT: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn try_out(offered: &str, code: &str) -> bool {
        let attempt = Attempt {
            offered: offered.to_owned(),
            code: code.to_owned(),
        };
        let bytes = postcard::to_stdvec(&attempt).unwrap();
        verify(bytes.as_slice()).unwrap()
    }

    #[test]
    fn the_code_is_taken_as_people_type_it_and_nothing_else_is() {
        for good in ["abcde-fghjk", " ABCDE FGHJK ", "abcdefghjk"] {
            assert!(try_out(good, "abcde-fghjk"), "{good}");
        }
        for wrong in ["abcde-fghjm", "abcde-fghj", "", "abcde-fghjkk"] {
            assert!(!try_out(wrong, "abcde-fghjk"), "{wrong}");
        }
    }

    #[test]
    fn a_box_without_a_code_lets_nobody_in() {
        assert!(!try_out("", "") && !try_out("-", "-"));
    }

    #[test]
    fn what_is_no_attempt_is_refused() {
        assert!(verify([0xff_u8; 9].as_slice()).is_err());
        assert!(verify([].as_slice()).is_err());
    }
}
