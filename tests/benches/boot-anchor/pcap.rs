//! What QEMU's packet dump tells while it grows: its stamps are of the guest's clock.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
    time::Duration,
};

use anyhow::Result;

/// The dump, followed.
pub(crate) struct Dump {
    file: File,
    unread: Vec<u8>,
    /// When the guest sent its first ARP frame: that of the initramfs.
    pub(crate) first_arp: Option<Duration>,
    /// When a server granted the guest an address.
    pub(crate) granted: Option<Duration>,
    /// How many connections the guest has taken.
    pub(crate) taken: usize,
    /// When it last sent bytes over one.
    pub(crate) answered: Option<Duration>,
}

impl Dump {
    /// Follows the dump at `path`, which QEMU has made.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut dump = Self {
            file: File::open(path)?,
            unread: Vec::new(),
            first_arp: None,
            granted: None,
            taken: 0,
            answered: None,
        };
        let mut header = [0; FILE_HEADER];
        loop {
            match dump.file.read_exact(&mut header) {
                Ok(()) => return Ok(dump),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                    dump = Self {
                        file: File::open(path)?,
                        ..dump
                    };
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Takes what is new; connections are those from the guest's `port`.
    pub(crate) fn follow(&mut self, port: u16) -> Result<()> {
        self.file.read_to_end(&mut self.unread)?;
        let mut at = 0;
        while let Some((stamp, frame)) = packet(&self.unread[at..]) {
            let frame = frame.to_vec();
            at += PACKET_HEADER + frame.len();
            self.take(stamp, &frame, port);
        }
        self.unread.drain(..at);
        Ok(())
    }

    fn take(&mut self, at: Duration, frame: &[u8], port: u16) {
        match frame.get(12..14) {
            Some([0x08, 0x06]) => {
                self.first_arp.get_or_insert(at);
            }
            Some([0x08, 0x00]) => self.take_ipv4(at, &frame[14..], port),
            _ => {}
        }
    }

    fn take_ipv4(&mut self, at: Duration, packet: &[u8], port: u16) {
        let header = usize::from(packet.first().map_or(0, |byte| byte & 15)) * 4;
        let (Some(kind), Some(payload)) = (packet.get(9), packet.get(header..)) else {
            return;
        };
        // Short packets are padded on the wire.
        let length = packet
            .get(2..4)
            .map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        let payload = &payload[..payload.len().min(length.saturating_sub(header))];
        match *kind {
            UDP if payload.windows(7).any(|part| part == DHCP_ACK) => {
                self.granted.get_or_insert(at);
            }
            TCP if payload.len() >= 20 && payload[..2] == port.to_be_bytes() => {
                if payload[13] & (SYN | ACK) == SYN | ACK {
                    self.taken += 1;
                }
                if payload.len() > usize::from(payload[12] >> 4) * 4 {
                    self.answered = Some(at);
                }
            }
            _ => {}
        }
    }
}

/// The first packet of a dump, if all of it is there: its stamp and its frame.
fn packet(dump: &[u8]) -> Option<(Duration, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(dump.get(at..at + 4)?.try_into().ok()?));
    let stamp = Duration::new(word(0)?.into(), word(4)? * 1000);
    let length = usize::try_from(word(8)?).ok()?;
    Some((stamp, dump.get(PACKET_HEADER..PACKET_HEADER + length)?))
}

const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Magic cookie and message type 5 (RFC 2131, RFC 2132).
const DHCP_ACK: &[u8] = &[0x63, 0x82, 0x53, 0x63, 53, 1, 5];
