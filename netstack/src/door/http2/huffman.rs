//! The Huffman code of HPACK (RFC 7541, appendix B), decoded.
//!
//! The code is canonical: the lengths alone define it. Codes of up to eight bits, which is nearly all
//! text, are looked up at once; longer ones by their length. Own code, since the crates that have it
//! either build hash maps for each string or move the whole input for each field.

/// A string that is not in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCode;

/// Appends what `bytes` mean to `out`.
///
/// # Errors
/// When `bytes` hold the end mark, or padding that is too long or not all ones.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    // `bits` holds `count` bits, left-aligned; below them are zeros.
    let (mut bits, mut count, mut rest) = (0_u64, 0_u32, bytes.iter());
    loop {
        while count <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = match TABLES.short[(bits >> 56) as usize] {
            (_, 0) => long(bits),
            (symbol, length) => (u16::from(symbol), u32::from(length)),
        };
        if length > count {
            break;
        }
        out.push(u8::try_from(symbol).map_err(|_| BadCode)?);
        bits <<= length;
        count -= length;
    }
    let padding = !(u64::MAX >> count);
    if count < 8 && bits == padding {
        Ok(())
    } else {
        Err(BadCode)
    }
}

/// Symbol and length of the code that `bits` begin with, which is longer than eight bits.
fn long(bits: u64) -> (u16, u32) {
    let top = (bits >> (64 - LONGEST)) as u32;
    let mut length = SHORTEST_LONG;
    while top >= TABLES.end[length] {
        length += 1;
    }
    let nth = (top - TABLES.first[length]) >> (LONGEST - length);
    let symbol = TABLES.symbols[TABLES.offset[length] + nth as usize];
    (symbol, length as u32)
}

struct Tables {
    /// For each first byte the symbol and length of its code, if that has at most eight bits.
    short: [(u8, u8); 256],
    /// All symbols by length, then value; 256 is the end mark.
    symbols: [u16; 257],
    /// For each length where its symbols begin in `symbols`.
    offset: [usize; LONGEST + 1],
    /// For each length the first code and the end of its codes, left-aligned in [`LONGEST`] bits.
    first: [u32; LONGEST + 1],
    end: [u32; LONGEST + 1],
}

const fn tables() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 256],
        symbols: [0; 257],
        offset: [0; LONGEST + 1],
        first: [0; LONGEST + 1],
        end: [0; LONGEST + 1],
    };
    let (mut length, mut code, mut filled) = (1, 0_u32, 0);
    while length <= LONGEST {
        tables.offset[length] = filled;
        tables.first[length] = code;
        let step = 1 << (LONGEST - length);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[filled] = symbol as u16;
                filled += 1;
                if length <= 8 {
                    fill(&mut tables.short, code, symbol as u8, length);
                }
                code += step;
            }
            symbol += 1;
        }
        tables.end[length] = code;
        length += 1;
    }
    tables
}

/// Enters a code for all bytes that begin with it.
const fn fill(short: &mut [(u8, u8); 256], code: u32, symbol: u8, length: usize) {
    let first = (code >> (LONGEST - 8)) as usize;
    let mut byte = first;
    while byte < first + (1 << (8 - length)) {
        short[byte] = (symbol, length as u8);
        byte += 1;
    }
}

static TABLES: Tables = tables();
const LONGEST: usize = 30;
const SHORTEST_LONG: usize = 10;
/// The code lengths of the 256 bytes and of the end mark, in bits.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, BadCode> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn the_standards_examples_are_understood() {
        // RFC 7541, C.4.1 and C.6.1.
        let authority = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&authority).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn every_symbol_comes_back() {
        let mut code = 0_u32;
        let mut order: Vec<usize> = (0..256).collect();
        order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
        for symbol in order {
            let length = u32::from(LENGTHS[symbol]);
            let aligned = u64::from(code) << (64 - LONGEST);
            // Padded with ones to whole bytes.
            let whole = length.div_ceil(8) * 8;
            let ones = (u64::MAX >> length) & !(u64::MAX >> (whole - 1) >> 1);
            let bytes = (aligned | ones).to_be_bytes();
            let got = decoded(&bytes[..whole as usize / 8]);
            assert_eq!(got, Ok(vec![symbol as u8]), "symbol {symbol}");
            code += 1 << (LONGEST - length as usize);
        }
    }

    #[test]
    fn bad_padding_and_the_end_mark_are_refused() {
        // RFC 7541, 5.2: padding of more than seven bits, of zeros, and the end mark itself.
        assert_eq!(decoded(&[0xff]), Err(BadCode));
        assert_eq!(decoded(&[0x07, 0xff]), Err(BadCode));
        assert_eq!(decoded(&[0x00]), Err(BadCode));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(BadCode));
    }
}
