//! What the kernel, or whoever pretends to be it, says of a device.
#![no_main]

use drivers::uevent::Uevent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(event) = Uevent::parse(bytes) else {
        return;
    };
    assert!(!event.action.is_empty() && event.devpath.starts_with('/'));
    if let Some(alias) = event.wants_module() {
        assert_eq!(event.action, "add");
        assert_eq!(event.property("MODALIAS"), Some(alias));
    }
    assert!(event.subsystem().len() <= bytes.len());
    // What is said after the part that was understood changes nothing of it.
    let more = [bytes, b"\0SEQNUM=1"].concat();
    let again = Uevent::parse(&more).expect("it was one without that");
    assert_eq!((again.action, again.devpath), (event.action, event.devpath));
});
