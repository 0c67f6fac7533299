//! Lists of search domains, as routers and DHCP servers send them: names in DNS's form, one after
//! another. DHCPv4 compresses them (RFC 3397), the others do not (RFC 8106, RFC 8415). Pure.

/// Whether a name may end with a pointer to another's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With pointers into the list, backwards only.
    Compressed,
    /// Each name whole.
    Plain,
}

/// The names of a list, the first [`NAMES_MAX`] of them. A name that would do harm in a file or on a
/// terminal is left out; after what is no name at all, nothing is read.
pub(crate) fn read(list: &[u8], form: Form) -> Vec<String> {
    let (mut names, mut at) = (Vec::new(), 0);
    while names.len() < NAMES_MAX
        && let Some((labels, end)) = name(list, at, form)
    {
        at = end;
        // What follows an empty name fills the option up.
        if labels.is_empty() {
            break;
        }
        names.extend(spelt(&labels));
    }
    names
}

/// The labels of the name at an offset, and where the next name begins.
fn name(list: &[u8], at: usize, form: Form) -> Option<(Vec<&[u8]>, usize)> {
    let (mut labels, mut next, mut lowest, mut end) = (Vec::new(), at, at, None);
    let mut length = 0;
    loop {
        let head = *list.get(next)?;
        match head {
            0 => return Some((labels, end.unwrap_or(next + 1))),
            1..=LABEL_MAX => {
                let label = list.get(next + 1..)?.get(..usize::from(head))?;
                length += label.len() + 1;
                if length > NAME_MAX + 1 {
                    return None;
                }
                labels.push(label);
                next += 1 + label.len();
            }
            POINTER.. if form == Form::Compressed => {
                let low = *list.get(next + 1)?;
                let target = usize::from(u16::from_be_bytes([head & !POINTER, low]));
                // Each leads further back, so there is an end.
                if target >= lowest {
                    return None;
                }
                end.get_or_insert(next + 2);
                (next, lowest) = (target, target);
            }
            _ => return None,
        }
    }
}

fn spelt(labels: &[&[u8]]) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let harmless = labels.iter().all(|label| label.iter().all(allowed));
    let text = || labels.iter().map(|label| String::from_utf8_lossy(label));
    harmless.then(|| text().collect::<Vec<_>>().join("."))
}

/// More than anybody searches through for one name.
const NAMES_MAX: usize = 8;
// From RFC 1035, sections 2.3.4 and 4.1.4.
const LABEL_MAX: u8 = 63;
const NAME_MAX: usize = 253;
const POINTER: u8 = 0xc0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_3397_is_read() {
        let list = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        let names = read(list, Form::Compressed);
        assert_eq!(names, ["eng.apple.com", "marketing.apple.com"]);
        let plain = read(list, Form::Plain);
        assert_eq!(plain, ["eng.apple.com"], "nothing is read behind a pointer");
    }

    #[test]
    fn a_list_of_whole_names_may_be_filled_up() {
        let list = b"\x04home\x04arpa\x00\x03a b\x00\x03lan\x00\x00\x00\x03not\x00";
        assert_eq!(read(list, Form::Plain), ["home.arpa", "lan"]);
    }

    #[test]
    fn pointers_that_lead_nowhere_back_or_round_end_the_list() {
        for rest in [
            &b"\xc0\x05"[..],
            b"\xc0\x07",
            b"\xc0\xff",
            b"\xc0",
            b"\x80\x00",
        ] {
            let list = [b"\x03lan\x00", rest].concat();
            assert_eq!(read(&list, Form::Compressed), ["lan"], "{rest:?}");
        }
        let chain = b"\x01a\x00\x01b\xc0\x00\x01c\xc0\x03\x01d\xc0\x07";
        let names = read(chain, Form::Compressed);
        assert_eq!(names, ["a", "b.a", "c.b.a", "d.c.b.a"]);
    }

    #[test]
    fn names_are_as_long_as_names_may_be_and_no_more_than_anybody_uses() {
        let label = [&[63][..], &[b'a'; 63]].concat();
        let fits = [label.repeat(3), [&[61][..], &[b'a'; 61]].concat(), vec![0]].concat();
        assert_eq!(read(&fits, Form::Plain)[0].len(), NAME_MAX);
        let long = [label.repeat(4), vec![0]].concat();
        assert_eq!(read(&long, Form::Plain), [] as [String; 0]);
        let many = b"\x01a\x00".repeat(1000);
        assert_eq!(read(&many, Form::Plain).len(), NAMES_MAX);
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = crate::net::random::Random::new(9);
        let bytes = [0, 1, 2, 3, 63, 64, 0xc0, 0xc1, b'a', 0xff];
        for _ in 0..20_000 {
            let list: Vec<u8> = (0..random.below(40))
                .map(|_| bytes[random.below(10) as usize])
                .collect();
            for form in [Form::Compressed, Form::Plain] {
                assert!(read(&list, form).iter().all(|name| name.len() <= NAME_MAX));
            }
        }
    }
}
