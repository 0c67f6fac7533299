//! Packet sockets: whole Ethernet frames in and out of one link, for what must speak before the
//! link has an address (DHCP, ARP).
//!
//! rustix has no link-layer socket address and no socket filter, so `bind` and
//! `SO_ATTACH_FILTER` are called here; everything else works on the descriptor as on any socket.
#![allow(unsafe_code)]

use std::{
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use rustix::io::Errno;

use crate::Error;

/// One instruction of a classic BPF program (`struct sock_filter` of `linux/filter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub if_true: u8,
    /// Instructions to skip if it does not.
    pub if_false: u8,
    /// The operand.
    pub operand: u32,
}

/// Opens a non-blocking packet socket for frames of `ethertype` on the link with index `link`.
///
/// Only frames that `filter` accepts are delivered, and none from before it was in place. An empty
/// filter accepts all.
///
/// # Errors
/// [`Error::Call`] if the kernel has no packet sockets (`EAFNOSUPPORT`), the link is gone or down
/// (`ENODEV`, `ENETDOWN`), the caller lacks `CAP_NET_RAW`, or the filter is not a valid program.
pub fn open(link: u32, ethertype: u16, filter: &[Instruction]) -> Result<OwnedFd, Error> {
    let what = || format!("link {link}");
    // Protocol 0 receives nothing: no frame slips in before the filter is attached.
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(raw).map_err(Error::call("socket", what()))?;
    // SAFETY: the kernel has just made this descriptor, nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    if !filter.is_empty() {
        attach(&socket, filter).map_err(Error::call("setsockopt SO_ATTACH_FILTER", what()))?;
    }
    bind(&socket, link, ethertype).map_err(Error::call("bind", what()))?;
    Ok(socket)
}

fn attach(socket: &OwnedFd, filter: &[Instruction]) -> Result<(), Errno> {
    let mut program: Vec<libc::sock_filter> = filter
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.if_true,
            jf: instruction.if_false,
            k: instruction.operand,
        })
        .collect();
    let value = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `value` has the size given and points to `len` instructions that outlive the call;
    // the kernel copies and verifies them.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const value).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

fn bind(socket: &OwnedFd, link: u32, ethertype: u16) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(link).map_err(|_| Errno::NODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `address` is a whole `sockaddr_ll`, and its size is what is given.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })
}

fn check(answer: libc::c_int) -> Result<(), Errno> {
    if answer < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_does_not_exist_is_refused_with_its_number() {
        let error = open(u32::MAX, 0x0806, &[]).expect_err("no such link");
        let text = error.to_string();
        assert!(text.contains("4294967295"), "{text}");
        assert!(error.errno().is_some());
    }
}
