//! What a server sends: understood alike however it is cut into packets, and never taken for a
//! part of the file that was not asked for.
//!
//! The input is the size of the packets in one byte, and the response.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::http::{
    range::{Answer, Asked, judge},
    response::{Head, read_all},
};
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, response)) = bytes.split_first() else {
        return;
    };
    let whole = bounded(bytes.len(), || read_all(response, response.len()));
    let cut = bounded(bytes.len(), || read_all(response, step.into()));
    assert_eq!(whole, cut);
    if let Ok((Some(head), _)) = whole {
        check(&head);
    }
});

fn check(head: &Head) {
    for length in [None, Some(1000)] {
        let asked = Asked {
            range: 100..200,
            length,
            version: Some(head.version.clone()),
        };
        if let Ok(Answer::Part { end, length }) = judge(head, &asked) {
            assert!((101..=200).contains(&end) && end <= length);
        }
        let _ = head.version.if_range();
        assert!(!head.version.differs(&head.version));
    }
}
