//! What the kernel's command line tells PID 1 (kernel doc `admin-guide/kernel-parameters`).

use netstack::net::TimeServer;

/// The settings of this boot, from `/proc/cmdline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// `pilot.slot=a|b`: which root slot to boot; `a` if it is not said.
    pub slot: Slot,
    /// `pilot.data=mapper|mounted`: how data is reached; straight from its partition if not said.
    pub data: Data,
    /// `pilot.keep=none`: there is no `keep` partition, so none is waited for.
    pub keeps_nothing: bool,
    /// `pilot.name=NAME`: the host name on the very first boot.
    pub name: Option<String>,
    /// `pilot.time=SERVER,SERVER`: time servers beside those that DHCP names, by address or name,
    /// for an owner who has set none.
    pub time_servers: Vec<TimeServer>,
}

/// How data is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Through a device-mapper target, so that it can be suspended.
    Mapper,
    /// It is mounted already, by whoever started us.
    Mounted,
    /// From its partition.
    Partition,
}

/// One of the two root partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `pilot-root-a`
    A,
    /// `pilot-root-b`
    B,
}

impl Slot {
    /// The label of the slot's partition.
    pub fn partition_label(self) -> &'static str {
        match self {
            Self::A => "pilot-root-a",
            Self::B => "pilot-root-b",
        }
    }
}

impl Cmdline {
    /// Reads the line. What it does not know is somebody else's; a bad value is as if not said,
    /// since a box that does not boot for a typing error helps nobody.
    pub fn parse(line: &str) -> Self {
        let mut cmdline = Self {
            slot: Slot::A,
            data: Data::Partition,
            keeps_nothing: false,
            name: None,
            time_servers: Vec::new(),
        };
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("pilot.slot", "b")) => cmdline.slot = Slot::B,
                Some(("pilot.data", "mapper")) => cmdline.data = Data::Mapper,
                Some(("pilot.data", "mounted")) => cmdline.data = Data::Mounted,
                Some(("pilot.keep", "none")) => cmdline.keeps_nothing = true,
                Some(("pilot.name", name)) if is_host_name(name) => {
                    cmdline.name = Some(name.to_owned());
                }
                Some(("pilot.time", servers)) => {
                    let servers = servers.split(',');
                    cmdline.time_servers = servers.filter_map(|it| it.parse().ok()).collect();
                }
                _ => {}
            }
        }
        cmdline
    }
}

/// Whether `name` is one label of a host name (RFC 1123, 2.1), in lower case.
pub fn is_host_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_among_the_kernels_own() {
        let line = "console=ttyS0 panic=10 pilot.slot=b pilot.data=mapper pilot.name=otter quiet\n";
        let expected = Cmdline {
            slot: Slot::B,
            data: Data::Mapper,
            keeps_nothing: false,
            name: Some("otter".to_owned()),
            time_servers: Vec::new(),
        };
        assert_eq!(Cmdline::parse(line), expected);
        let elsewhere = Cmdline::parse("pilot.data=mounted pilot.keep=none");
        assert_eq!(elsewhere.data, Data::Mounted);
        assert!(elsewhere.keeps_nothing);
        let timed = Cmdline::parse("pilot.time=192.0.2.1,no_server,2001:db8::1,time.example");
        let servers = ["192.0.2.1", "2001:db8::1", "time.example"].map(|it| it.parse().unwrap());
        assert_eq!(timed.time_servers, servers);
    }

    #[test]
    fn bad_values_are_as_if_not_said() {
        let parsed = Cmdline::parse("pilot.slot=z pilot.data pilot.name=-x pilot.name=a/b");
        assert_eq!(parsed, Cmdline::parse(""));
        assert_eq!(parsed.slot, Slot::A);
    }

    #[test]
    fn host_names_are_single_labels() {
        for good in ["otter-lantern", "a", "box2"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", &"x".repeat(64)] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
