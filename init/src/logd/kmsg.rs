//! The kernel's messages, as `/dev/kmsg` gives them (Documentation/ABI/testing/dev-kmsg): one
//! record a read, `priority,number,microseconds,flags;text`, then lines of labels, not used here.

use std::{os::fd::BorrowedFd, time::Duration};

use rustix::io::Errno;

/// One message of the kernel, or of a program that wrote to `/dev/kmsg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelMessage {
    /// Syslog's severity, 0 to 7.
    pub(crate) priority: u8,
    /// When, since the kernel started.
    pub(crate) at: Duration,
    /// What; the kernel has escaped what does not print.
    pub(crate) text: String,
}

/// Where the kernel's messages are read.
pub(crate) const PATH: &str = "/dev/kmsg";

/// The next message of a non-blocking `/dev/kmsg`; `None` if there is no more for now.
///
/// # Errors
/// Reading failed. Messages that the kernel overwrote meanwhile are no error but skipped.
pub(crate) fn next(kmsg: BorrowedFd<'_>) -> Result<Option<KernelMessage>, Errno> {
    let mut record = [0; MAX_RECORD];
    loop {
        match rustix::io::read(kmsg, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(None),
            Ok(n) => match parse(&record[..n]) {
                Some(message) => return Ok(Some(message)),
                None => continue,
            },
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn parse(record: &[u8]) -> Option<KernelMessage> {
    let record = String::from_utf8_lossy(record);
    let (labels, rest) = record.split_once(';')?;
    let mut labels = labels.split(',');
    let priority: u32 = labels.next()?.parse().ok()?;
    let micros = labels.nth(1)?.parse().ok()?;
    let text = rest.lines().next().unwrap_or_default();
    Some(KernelMessage {
        priority: (priority & 7) as u8,
        at: Duration::from_micros(micros),
        text: text.to_owned(),
    })
}

/// The kernel's own limit (PRINTK_MESSAGE_MAX); a shorter buffer would lose the message.
const MAX_RECORD: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_apart() {
        let message = parse(b"30,339,5140900,-,caller=T1;eth0: link up; 1 Gb/s\n SUBSYSTEM=net\n");
        let expected = KernelMessage {
            priority: 6,
            at: Duration::from_micros(5_140_900),
            text: "eth0: link up; 1 Gb/s".into(),
        };
        assert_eq!(message, Some(expected));
    }

    #[test]
    fn rubbish_is_no_message() {
        for record in [
            &b""[..],
            b";",
            b"6,1;x",
            b"a,b,c,d;x",
            b"6,1,99999999999999999999,-;x",
        ] {
            assert_eq!(parse(record), None, "{record:?}");
        }
    }
}
