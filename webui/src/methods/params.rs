//! The methods' parameters: as they are read, and as they are described.

use serde::Deserialize;
use supervise::{control::Power, unit::UnitName};

/// One parameter.
pub(super) struct Param {
    pub(super) name: &'static str,
    /// Its JSON Schema, as text.
    pub(super) schema: &'static str,
    pub(super) required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogParams {
    pub(super) unit: Option<UnitName>,
    pub(super) lines: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceParams {
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleParams {
    pub(super) role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PowerParams {
    pub(super) how: How,
}

#[cfg(feature = "fault")]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultParams {
    pub(super) kind: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    Halt,
    PowerOff,
    Reboot,
}

impl From<How> for Power {
    fn from(how: How) -> Self {
        match how {
            How::Halt => Self::Halt,
            How::PowerOff => Self::PowerOff,
            How::Reboot => Self::Reboot,
        }
    }
}

pub(super) const ID: Param = Param {
    name: "id",
    schema: r#"{"type":"string"}"#,
    required: true,
};
pub(super) const UNIT: Param = Param {
    name: "unit",
    schema: r#"{"type":"string"}"#,
    required: false,
};
pub(super) const LINES: Param = Param {
    name: "lines",
    schema: r#"{"type":"integer","minimum":0,"maximum":1000,"default":100}"#,
    required: false,
};
pub(super) const HOW: Param = Param {
    name: "how",
    schema: r#"{"type":"string","enum":["poweroff","reboot","halt"]}"#,
    required: true,
};
pub(super) const LINK: Param = Param {
    name: "link",
    schema: r#"{"type":"string"}"#,
    required: false,
};
pub(super) const MODE: Param = Param {
    name: "mode",
    schema: r#"{"type":"string","enum":["automatic","static","unmanaged","removed"]}"#,
    required: false,
};
pub(super) const BRIDGE: Param = Param {
    name: "bridge",
    schema: r#"{"type":"array","items":{"type":"string"},"minItems":1,"maxItems":32}"#,
    required: false,
};
pub(super) const VLAN: Param = Param {
    name: "vlan",
    schema: r#"{"type":"object","required":["on","id"],"properties":{"on":{"type":"string"},"id":{"type":"integer","minimum":1,"maximum":4094}}}"#,
    required: false,
};
pub(super) const METRIC: Param = Param {
    name: "metric",
    schema: r#"{"type":"integer","minimum":0,"maximum":9999}"#,
    required: false,
};
pub(super) const SERVICE: Param = Param {
    name: "service",
    schema: r#"{"type":"string"}"#,
    required: false,
};
pub(super) const UPLINK: Param = Param {
    name: "uplink",
    schema: r#"{"type":"string"}"#,
    required: false,
};
pub(super) const ONLY: Param = Param {
    name: "only",
    schema: r#"{"type":"boolean","default":false}"#,
    required: false,
};
pub(super) const ADDRESS: Param = Param {
    name: "address",
    schema: r#"{"type":"string","examples":["192.168.1.5/24"]}"#,
    required: false,
};
pub(super) const GATEWAY: Param = Param {
    name: "gateway",
    schema: r#"{"type":"string","format":"ipv4"}"#,
    required: false,
};
pub(super) const DNS: Param = Param {
    name: "dns",
    schema: r#"{"type":"array","items":{"type":"string"},"maxItems":6}"#,
    required: false,
};
pub(super) const SECONDS: Param = Param {
    name: "seconds",
    schema: r#"{"type":"integer","minimum":10,"maximum":600,"default":90}"#,
    required: false,
};
pub(super) const TIME: Param = Param {
    name: "time",
    schema: r#"{"type":["array","null"],"items":{"type":"string"},"maxItems":8,"examples":[["0.pool.ntp.org"]]}"#,
    required: false,
};
pub(super) const LAN: Param = Param {
    name: "lan",
    schema: r#"{"type":"boolean"}"#,
    required: false,
};
pub(super) const TOKEN: Param = Param {
    name: "token",
    schema: r#"{"type":"string"}"#,
    required: true,
};
pub(super) const ROLE: Param = Param {
    name: "role",
    schema: r#"{"type":"string","enum":["front","manager","logd"]}"#,
    required: true,
};
#[cfg(feature = "fault")]
pub(super) const KIND: Param = Param {
    name: "kind",
    schema: r#"{"type":"string"}"#,
    required: true,
};
