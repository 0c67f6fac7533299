//! Services in the dashboard's terms.

use services::view::{PortView, ServiceState, ServiceView};

/// What is wrong with a package that can't be used, as a sentence.
pub(super) fn refusal(service: &ServiceView) -> Option<String> {
    (service.state == ServiceState::Refused).then(|| {
        format!(
            "The package {} can't be used: {}",
            service.title, service.why
        )
    })
}

/// What of the box a service asks for and does not get, as a sentence.
pub(super) fn port_refusal(service: &ServiceView) -> Option<String> {
    let why = service.refused.as_ref()?;
    Some(format!(
        "{} can't be had as it asks for: {why}",
        service.title
    ))
}

/// A service as the dashboard shows it.
pub(super) fn of(service: &ServiceView) -> webui::ServiceView {
    let state = match service.state {
        ServiceState::BackingOff | ServiceState::Refused => webui::ServiceState::Failing,
        ServiceState::Running => webui::ServiceState::Running,
        ServiceState::Starting => webui::ServiceState::Starting,
        ServiceState::Stopped => webui::ServiceState::Stopped,
        ServiceState::Stopping => webui::ServiceState::Stopping,
        ServiceState::Unhealthy => webui::ServiceState::Degraded,
    };
    let interface = |port: &PortView| webui::Interface {
        name: port.name.clone(),
        port: port.tls_port,
        path: "/".to_owned(),
    };
    webui::ServiceView {
        id: service.id.clone(),
        title: service.title.clone(),
        version: service.version.clone(),
        state,
        why: Some(service.why.clone()).filter(|why| !why.is_empty()),
        since: service.since,
        restarts: service.restarts,
        interfaces: service
            .ports
            .iter()
            .filter(|port| port.is_web)
            .map(interface)
            .collect(),
    }
}
