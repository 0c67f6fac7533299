//! Frames of the control protocol, as a role and PID 1 get them: through the socket, with
//! descriptors beside them. Whatever comes, the next frame still arrives, and no descriptor is left.
//!
//! A step of the script is a byte that says for whom the frame is and how many descriptors go with
//! it, a length in two bytes, and the frame.
#![no_main]

use std::{
    fmt::Debug,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use libfuzzer_sys::fuzz_target;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use supervise::control::{Event, FrameError, MAX_FDS, Request, receive, send};

fuzz_target!(|script: &[u8]| {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (theirs, ours) = pair.expect("a pair of sockets");
    let free = lowest_free(&ours);
    let mut script = script;
    while let [what, low, high, rest @ ..] = script {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (frame, after) = rest.split_at(length);
        script = after;
        say(&theirs, frame, usize::from(what >> 1) % (MAX_FDS + 4));
        if frame.is_empty() {
            // The end of a conversation looks like this: nobody says anything after it.
            break;
        }
        if what & 1 == 0 {
            hear::<Request>(&theirs, &ours, &Request::List);
        } else {
            hear::<Event>(&theirs, &ours, &Event::Welcome { protocol: 1 });
        }
        assert_eq!(lowest_free(&ours), free, "a descriptor is left open");
    }
});

fn hear<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    theirs: &OwnedFd,
    ours: &OwnedFd,
    next: &T,
) {
    match receive::<T>(ours.as_fd()) {
        Ok((message, fds)) => {
            assert!(fds.len() <= MAX_FDS);
            let written = postcard::to_stdvec(&message).expect("it was read");
            let again: T = postcard::from_bytes(&written).expect("it was written");
            assert_eq!(again, message);
        }
        Err(FrameError::Malformed(_) | FrameError::TooLong) => {}
        Err(e) => panic!("{e}"),
    }
    send(theirs.as_fd(), next, &[]).expect("there is room");
    let (heard, _) = receive::<T>(ours.as_fd()).expect("the next frame");
    assert_eq!(heard, *next);
}

/// Sends any bytes with so many descriptors; more than may go with a frame, too.
fn say(theirs: &OwnedFd, frame: &[u8], fds: usize) {
    let fds: Vec<BorrowedFd<'_>> = (0..fds).map(|_| theirs.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(theirs, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL).expect("room");
}

fn lowest_free(any: &OwnedFd) -> i32 {
    any.try_clone().expect("a descriptor").as_raw_fd()
}
