//! Unsigned LEB128: seven bits a byte, least significant first, the high bit says "more follow".

use crate::{
    bytes::Cursor,
    error::Error,
    profile::{Deviation, Profile},
};

/// Appends `value` in its shortest form.
pub fn encode(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`encode`] writes for `value`, 1 to 10.
pub fn size(value: u64) -> u64 {
    let bits = u64::from(u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7)
}

pub(crate) fn decode(cursor: &mut Cursor<'_>, profile: &mut Profile) -> Result<u64, Error> {
    let offset = cursor.offset();
    let mut value = 0u64;
    for index in 0..LONGEST {
        let byte = cursor.byte()?;
        if index == LONGEST - 1 && byte & 0x7f > 1 {
            let problem = "a number does not fit 64 bits";
            return Err(Error::Toc { offset, problem });
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                profile.deviates(Deviation::LongVarint { offset })?;
            }
            return Ok(value);
        }
    }
    let problem = "a number has no end";
    Err(Error::Toc { offset, problem })
}

/// Bytes of a 64-bit number, at most: 64 bits by 7.
const LONGEST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], mut profile: Profile) -> Result<u64, Error> {
        decode(&mut Cursor::new(bytes, 7), &mut profile)
    }

    #[test]
    fn what_is_written_is_read_and_has_the_size_foretold() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            encode(value, &mut bytes);
            assert_eq!(bytes.len() as u64, size(value), "{value}");
            assert_eq!(read(&bytes, Profile::strict()).unwrap(), value);
        }
    }

    #[test]
    fn longer_forms_are_refused_unless_lenient() {
        assert_eq!(read(&[0x85, 0], Profile::lenient()).unwrap(), 5);
        let error = read(&[0x85, 0], Profile::strict()).unwrap_err();
        assert!(error.to_string().contains("byte 7"), "{error}");
    }

    #[test]
    fn numbers_beyond_64_bits_or_without_end_are_refused() {
        let mut overflow = [0xff; 10];
        overflow[9] = 2;
        assert!(read(&overflow, Profile::lenient()).is_err());
        assert!(read(&[0x80; 11], Profile::lenient()).is_err());
        assert!(read(&[0x80], Profile::lenient()).is_err());
    }
}
