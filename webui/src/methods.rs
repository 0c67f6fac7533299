//! The API's methods, and their machine-readable description.
//!
//! One table names them all; what a method does and what is said of it can't drift apart unseen.

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use supervise::{control::Secret, unit::UnitName};
use tokio::time::timeout;

use crate::{
    feed::Feed,
    host::{Asked, Host, ServiceCommand},
    metrics::Metrics,
    rpc::{self, Failure},
    upload,
};

mod guard;
mod init;
pub(crate) mod net;
mod params;

use net::{ConfirmParams, GeneralParams, SetParams};
use params::{
    HOW, ID, LINES, LogParams, Param, PowerParams, ROLE, RoleParams, ServiceParams, UNIT,
};

/// One method of the API.
pub(crate) struct Method {
    /// `<thing>.<verb>`.
    name: &'static str,
    /// What it does, as a sentence.
    summary: &'static str,
    /// Its parameters.
    params: &'static [Param],
    /// Whether it changes something, and so needs the setup code over the network.
    pub(crate) changes: bool,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    CodeCheck,
    #[cfg(feature = "fault")]
    Fault,
    Guard,
    Init,
    Logs,
    Metrics,
    NetConfirm,
    NetGeneral,
    NetRollback,
    NetSet,
    NetStatus,
    Power,
    RestartRole,
    Service(ServiceCommand),
    Services,
    Status,
}

/// The method called `name`.
pub(crate) fn find(name: &str) -> Result<&'static Method, Failure> {
    METHODS
        .iter()
        .find(|method| method.name == name)
        .ok_or_else(|| {
            let message = format!("There is no method {name:?}. GET /api lists them.");
            Failure::new(rpc::METHOD_NOT_FOUND, message)
        })
}

impl Method {
    /// Does it. Whether the caller may is the caller's to have checked.
    pub(crate) async fn run(
        &self,
        params: Value,
        host: &Arc<dyn Host>,
        feed: &Feed,
    ) -> Result<Value, Failure> {
        match self.action {
            Action::CodeCheck => Ok(json!(true)),
            #[cfg(feature = "fault")]
            Action::Fault => refuse(host.fault(&read::<params::FaultParams>(params)?.kind)),
            Action::Guard => Ok(guard::report(&host.snapshot().borrow().status.guard)),
            Action::Init => Ok(init::status(&host.snapshot().borrow().status)),
            Action::Logs => logs(read(params)?, host).await,
            Action::Metrics => match Metrics::read() {
                Ok(metrics) => {
                    let mut metrics = json!(metrics);
                    metrics["guard"] = guard::counts(&host.snapshot().borrow().status.guard);
                    Ok(metrics)
                }
                Err(error) => Err(Failure::new(rpc::REFUSED, format!("{error}."))),
            },
            Action::NetConfirm => {
                let ConfirmParams { token } = read(params)?;
                let confirmed = host.confirm_network(Secret(token));
                let lasts = waited(confirmed).await?;
                Ok(json!({ "outlivesReboot": lasts }))
            }
            Action::NetGeneral => {
                for setting in read::<GeneralParams>(params)?.settings() {
                    waited(host.set_general(setting)).await?;
                }
                Ok(json!(true))
            }
            Action::NetRollback => {
                waited(host.undo_network()).await?;
                Ok(json!(true))
            }
            Action::NetSet => net_set(read(params)?, host).await,
            Action::NetStatus => Ok(net::status(&host.snapshot().borrow().status)),
            Action::Power => refuse(host.power(read::<PowerParams>(params)?.how.into())),
            Action::RestartRole => {
                refuse(host.restart_role(&known_role(&read::<RoleParams>(params)?.role)?))
            }
            Action::Service(command) => {
                refuse(host.service(&read::<ServiceParams>(params)?.id, command))
            }
            Action::Services => Ok(feed.document()["services"].take()),
            Action::Status => Ok(feed.document()),
        }
    }
}

/// The description that `GET /api` answers with (OpenRPC 1.3).
pub(crate) fn describe() -> Value {
    let methods = METHODS.iter().map(|method| {
        let params = method.params.iter().map(|param| {
            let schema = serde_json::from_str::<Value>(param.schema).unwrap_or_default();
            json!({ "name": param.name, "required": param.required, "schema": schema })
        });
        json!({
            "name": method.name,
            "summary": method.summary,
            "paramStructure": "by-name",
            "params": params.collect::<Vec<_>>(),
            "result": { "name": "result", "schema": {} },
            "x-needs-code": method.changes,
        })
    });
    json!({
        "openrpc": "1.3.2",
        "info": { "title": "Pilotlight", "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "name": "this box", "url": "/api" }],
        "methods": methods.collect::<Vec<_>>(),
        // Beside the calls: a file as the body of a POST.
        "x-uploads": [{
            "path": upload::INIT,
            "summary": "Upgrades PID 1 to this signed binary; init.status says what comes of it.",
            "x-needs-code": true,
        }],
    })
}

async fn net_set(params: SetParams, host: &Arc<dyn Host>) -> Result<Value, Failure> {
    let wrong = |why| Failure::new(rpc::INVALID_PARAMS, why);
    let setting = params.setting().map_err(wrong)?;
    let seconds = params.seconds.unwrap_or(USUAL_WAIT_S);
    let taken = host.set_network(params.link, setting, seconds);
    let taken = waited(taken).await?;
    let hostname = host.snapshot().borrow().status.hostname.clone();
    Ok(net::taken(&hostname, &taken))
}

/// Waits for PID 1's answer, for a while.
async fn waited<T>(asked: Asked<'_, T>) -> Result<T, Failure> {
    match timeout(PID1_DEADLINE, asked).await {
        Ok(result) => result.map_err(|why| Failure::new(rpc::REFUSED, why)),
        Err(_) => Err(Failure::new(
            rpc::TIMED_OUT,
            "PID 1 did not answer in time. It may still be done; look before you try again.",
        )),
    }
}

async fn logs(params: LogParams, host: &Arc<dyn Host>) -> Result<Value, Failure> {
    let lines = params.lines.unwrap_or(DEFAULT_LINES).min(MAX_LINES);
    match timeout(DEADLINE, host.logs(params.unit, lines)).await {
        Ok(Ok(lines)) => Ok(json!(lines)),
        Ok(Err(why)) => Err(Failure::new(rpc::REFUSED, why)),
        Err(_) => Err(Failure::new(
            rpc::TIMED_OUT,
            "The log did not answer in time.",
        )),
    }
}

/// Only PID 1's own roles: services have methods of their own.
fn known_role(name: &str) -> Result<UnitName, Failure> {
    let known = ROLES.contains(&name).then(|| name.parse().ok()).flatten();
    known.ok_or_else(|| {
        Failure::new(
            rpc::INVALID_PARAMS,
            format!("The roles are {}.", ROLES.join(", ")),
        )
    })
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Failure> {
    serde_json::from_value(params)
        .map_err(|error| Failure::new(rpc::INVALID_PARAMS, format!("Wrong parameters: {error}.")))
}

fn refuse(result: Result<(), String>) -> Result<Value, Failure> {
    result
        .map(|()| json!(true))
        .map_err(|why| Failure::new(rpc::REFUSED, why))
}

const fn look(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    action: Action,
) -> Method {
    Method {
        name,
        summary,
        params,
        changes: false,
        action,
    }
}

const fn change(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    action: Action,
) -> Method {
    Method {
        name,
        summary,
        params,
        changes: true,
        action,
    }
}

const METHODS: &[Method] = &[
    #[cfg(feature = "fault")]
    change(
        "fault.inject",
        "Makes the manager fail in the way named.",
        &[params::KIND],
        Action::Fault,
    ),
    look(
        "box.status",
        "The whole state of the box, as the page shows it.",
        &[],
        Action::Status,
    ),
    look(
        "box.metrics",
        "Load and memory, read now, and how often the guard took each step.",
        &[],
        Action::Metrics,
    ),
    change(
        "box.power",
        "Turns the box off, or starts it again.",
        &[HOW],
        Action::Power,
    ),
    look(
        "guard.report",
        "Which part of the server was silent, what its threads did, and what was done.",
        &[],
        Action::Guard,
    ),
    look(
        "init.status",
        "PID 1 itself: which binary it is, and what came of the last upgrade.",
        &[],
        Action::Init,
    ),
    look(
        "logs.tail",
        "The last log lines, oldest first.",
        &[UNIT, LINES],
        Action::Logs,
    ),
    look(
        "net.status",
        "Why the box can or can't be reached, how its network is set, and what is being changed.",
        &[],
        Action::NetStatus,
    ),
    change(
        "net.set",
        "Changes how a link gets its addresses; undone by itself unless it is confirmed.",
        &[
            params::LINK,
            params::MODE,
            params::ADDRESS,
            params::GATEWAY,
            params::DNS,
            params::SECONDS,
        ],
        Action::NetSet,
    ),
    change(
        "net.general",
        "Sets whom the box asks for the time, and whether its own networks may ask it for names; \
         at once.",
        &[params::TIME, params::LAN],
        Action::NetGeneral,
    ),
    change(
        "net.confirm",
        "Keeps the change of the network that this token belongs to.",
        &[params::TOKEN],
        Action::NetConfirm,
    ),
    change(
        "net.rollback",
        "Undoes the change of the network that waits to be confirmed.",
        &[],
        Action::NetRollback,
    ),
    look("service.list", "The services by id.", &[], Action::Services),
    change(
        "service.start",
        "Starts a service and keeps it running.",
        &[ID],
        Action::Service(ServiceCommand::Start),
    ),
    change(
        "service.stop",
        "Stops a service and keeps it stopped.",
        &[ID],
        Action::Service(ServiceCommand::Stop),
    ),
    change(
        "service.restart",
        "Stops a service and starts it again.",
        &[ID],
        Action::Service(ServiceCommand::Restart),
    ),
    change(
        "role.restart",
        "Replaces a part of the server itself.",
        &[ROLE],
        Action::RestartRole,
    ),
    change(
        "setup.check",
        "Says whether the setup code is right.",
        &[],
        Action::CodeCheck,
    ),
];

const ROLES: [&str; 3] = ["front", "manager", "logd"];
const DEFAULT_LINES: usize = 100;
/// About a screen's worth many times over, and still a small answer.
const MAX_LINES: usize = 1000;
/// What is confirmed is written down first, by a helper with 20 s.
const PID1_DEADLINE: Duration = Duration::from_secs(30);
/// How long a change waits to be confirmed, in seconds.
const USUAL_WAIT_S: u64 = 90;
/// Whoever asked has given up by then.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_complete_and_its_schemas_are_json() {
        let described = describe();
        let listed = described["methods"].as_array().unwrap();
        assert_eq!(listed.len(), METHODS.len());
        for method in listed {
            for param in method["params"].as_array().unwrap() {
                let kind = &param["schema"]["type"];
                assert!(kind.is_string() || kind.is_array(), "{method}");
            }
        }
    }

    #[test]
    fn every_method_that_looks_is_known_to_look_only() {
        let open = METHODS
            .iter()
            .filter(|m| !m.changes)
            .map(|m| m.name)
            .collect::<Vec<_>>();
        assert_eq!(
            open,
            [
                "box.status",
                "box.metrics",
                "guard.report",
                "init.status",
                "logs.tail",
                "net.status",
                "service.list"
            ]
        );
    }

    #[test]
    fn only_the_boxs_own_roles_can_be_replaced() {
        assert!(known_role("front").is_ok());
        for other in ["service-demo", "init", ""] {
            assert_eq!(known_role(other).unwrap_err().code, rpc::INVALID_PARAMS);
        }
    }
}
