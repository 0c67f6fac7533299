//! Hexadecimal digits, as keys, hashes and signatures are written.

/// The bytes that `text` spells, if it has two digits for each and nothing else.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_bytes_of_digits_are_taken() {
        assert_eq!(parse("00ffA5"), Some([0, 255, 0xa5]));
        for text in ["", "00ff", "00ffA", "00ffa5b6", "00ffg5", "+0ffa5", "é0ffa"] {
            assert_eq!(parse::<3>(text), None, "{text}");
        }
    }
}
