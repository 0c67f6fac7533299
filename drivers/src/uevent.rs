//! The kernel's news of devices that come and go (`NETLINK_KOBJECT_UEVENT`).
//!
//! PID 1 reads them, so nothing here waits, allocates without bound, or trusts a byte: other
//! processes may send to the same multicast group, so only the kernel's own messages (port 0) are
//! taken, and what does not parse is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
    },
};

use crate::Error;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind`, ...
    pub action: String,
    /// The device's folder below /sys, as `/devices/pci0000:00/...`.
    pub devpath: String,
    properties: Vec<(String, String)>,
}

impl Uevent {
    /// Reads an event; `None` if the bytes are none.
    ///
    /// ```
    /// let event = drivers::uevent::Uevent::parse(
    ///     b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=block\0",
    /// );
    /// assert_eq!(event.unwrap().property("SUBSYSTEM"), Some("block"));
    /// ```
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.split(|&byte| byte == 0).map(std::str::from_utf8);
        let (action, devpath) = fields.next()?.ok()?.split_once('@')?;
        if action.is_empty() || !devpath.starts_with('/') {
            return None;
        }
        let properties = fields
            .filter_map(|field| field.ok()?.split_once('='))
            .take(MAX_PROPERTIES)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some(Self {
            action: action.to_owned(),
            devpath: devpath.to_owned(),
            properties,
        })
    }

    /// A property: `SUBSYSTEM`, `MODALIAS`, `DEVNAME`, `PARTNAME`, ...
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The bus or class of the device.
    pub fn subsystem(&self) -> &str {
        self.property("SUBSYSTEM").unwrap_or_default()
    }

    /// The alias to load a module by, if a device was added that names one.
    pub fn wants_module(&self) -> Option<&str> {
        self.property("MODALIAS").filter(|_| self.action == "add")
    }
}

/// The socket on which events arrive.
#[derive(Debug)]
pub struct UeventSocket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl UeventSocket {
    /// Opens it, non-blocking. Events from now on arrive; see [`crate::coldplug`] for those before.
    ///
    /// # Errors
    /// When the kernel has no such protocol, or in a user namespace that may not listen.
    pub fn open() -> Result<Self, Error> {
        let step = |what| move |errno| Error::UeventSocket { what, errno };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        )
        .map_err(step("socket"))?;
        // Without the privilege the default size stays, and more may be lost, which is told.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))
            .map_err(step("bind"))?;
        Ok(Self {
            socket,
            buffer: vec![0; MAX_EVENT],
        })
    }

    /// Takes over one that is open and bound, with the events that wait in it.
    pub fn from_open(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: vec![0; MAX_EVENT],
        }
    }

    /// The next event, or `None` when there is none right now. Call until `None`.
    ///
    /// # Errors
    /// [`Error::UeventsLost`] when the kernel dropped some: look at what is there anew.
    pub fn receive(&mut self) -> Result<Option<Uevent>, Error> {
        for _ in 0..MAX_FOREIGN {
            let got = rustix::net::recvfrom(&self.socket, &mut self.buffer, RecvFlags::DONTWAIT);
            let (read, length, sender) = match got {
                Ok(got) => got,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => return Err(Error::UeventsLost),
                Err(errno) => {
                    return Err(Error::UeventSocket {
                        what: "recvfrom",
                        errno,
                    });
                }
            };
            let from_kernel = sender
                .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
                .is_some_and(|sender| sender.pid() == 0);
            // A message longer than the buffer is cut: the kernel sends none that long.
            if !from_kernel || length > read {
                continue;
            }
            if let Some(event) = Uevent::parse(&self.buffer[..read]) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The multicast group on which the kernel speaks; 2 is udev's.
const KERNEL_GROUP: u32 = 1;

/// The kernel's own limit of an event is 2 KiB of properties (`UEVENT_BUFFER_SIZE`) and a path.
const MAX_EVENT: usize = 8 * 1024;

/// The kernel's limit is 64 (`UEVENT_NUM_ENVP`).
const MAX_PROPERTIES: usize = 64;

/// A box with hundreds of devices sends about half a megabyte during coldplug.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Messages skipped in one call, so that a flood from elsewhere does not hold the caller.
const MAX_FOREIGN: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    const ADD: &[u8] = b"add@/devices/pci0000:00/0000:00:02.0\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:02.0\0SUBSYSTEM=pci\0\
        MODALIAS=pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00\0SEQNUM=700\0";

    #[test]
    fn an_added_device_names_the_module_it_wants() {
        let event = Uevent::parse(ADD).unwrap();
        assert_eq!(event.action, "add");
        assert_eq!(event.devpath, "/devices/pci0000:00/0000:00:02.0");
        assert_eq!(event.subsystem(), "pci");
        assert!(event.wants_module().unwrap().starts_with("pci:v00001AF4"));
        let mut gone = event;
        gone.action = "remove".to_owned();
        assert_eq!(gone.wants_module(), None);
    }

    #[test]
    fn what_is_no_event_is_none() {
        for bad in [
            &b""[..],
            b"\0",
            b"libudev\0\xfe\xed\xca\xfe",
            b"@/x\0",
            b"add@x\0A=b",
            b"\xff@/",
        ] {
            assert_eq!(Uevent::parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(event) = Uevent::parse(&bytes) {
                prop_assert!(event.properties.len() <= MAX_PROPERTIES);
            }
        }
    }

    #[test]
    fn the_kernel_is_heard_and_nobody_else() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to trigger an event");
            return;
        }
        let mut socket = UeventSocket::open().unwrap();
        let liar = UeventSocket::open().unwrap();
        rustix::net::sendto(
            &liar,
            b"add@/devices/lie\0ACTION=add\0",
            rustix::net::SendFlags::empty(),
            &SocketAddrNetlink::new(0, KERNEL_GROUP),
        )
        .unwrap();
        std::fs::write("/sys/devices/virtual/mem/null/uevent", "change").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(event) = socket.receive().unwrap() {
                assert_ne!(event.devpath, "/devices/lie");
                if event.devpath == "/devices/virtual/mem/null" {
                    assert_eq!(event.property("DEVNAME"), Some("null"));
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the kernel sent no event");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
