//! The manager as the dashboard sees it: orders go to the steward, the state of the box comes back.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use services::registry::Desired;
use supervise::{
    control::{Event, Power, Request, Secret},
    network::{self, ChangeTaken, GeneralSetting},
    unit::UnitName,
};
use tokio::sync::{mpsc, watch};
use webui::{Asked, LogLine, ServiceCommand, Snapshot};

use super::{link::Link, logs, questions::Questions, store::Wish};

/// The desk where the dashboard asks and the steward lays out what there is.
#[derive(Debug)]
pub(super) struct Desk {
    link: Link,
    orders: mpsc::Sender<Order>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    setup_code: Mutex<Option<String>>,
    questions: Questions,
}

/// What the owner has ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End a service's run and begin another.
    Restart(UnitName),
    /// Have a service run, or not.
    Wish(Wish),
}

impl Desk {
    /// A desk with nothing on it.
    pub(super) fn new(link: Link) -> (Self, mpsc::Receiver<Order>) {
        let (orders, taken) = mpsc::channel(MAX_ORDERS);
        let (snapshot, _) = watch::channel(Arc::default());
        (
            Self {
                link,
                orders,
                snapshot,
                setup_code: Mutex::default(),
                questions: Questions::default(),
            },
            taken,
        )
    }

    /// Lays out the state of the box.
    pub(super) fn show(&self, snapshot: Snapshot) {
        self.snapshot.send_if_modified(|shown| {
            let changed = **shown != snapshot;
            if changed {
                *shown = Arc::new(snapshot);
            }
            changed
        });
    }

    /// Sets the code that lets its holder steer the box.
    pub(super) fn set_setup_code(&self, code: String) {
        *self
            .setup_code
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(code);
    }

    /// PID 1 has answered question `id`.
    pub(super) fn answered(&self, id: u64, answer: Event) {
        self.questions.answered(id, answer);
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.orders
            .try_send(order)
            .map_err(|_| "the manager has too much to do; try again in a moment".to_owned())
    }
}

impl webui::Host for Desk {
    fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    fn logs(&self, unit: Option<UnitName>, lines: usize) -> Asked<'_, Vec<LogLine>> {
        Box::pin(async move {
            let lines = logs::last(unit, lines).await?;
            Ok(lines.into_iter().map(line).collect())
        })
    }

    fn service(&self, id: &str, command: ServiceCommand) -> Result<(), String> {
        let unit = UnitName::service(id).map_err(|e| e.to_string())?;
        if !self
            .snapshot
            .borrow()
            .services
            .iter()
            .any(|service| service.id == id)
        {
            return Err(format!("there is no service {id:?}"));
        }
        let wish = |desired| {
            Order::Wish(Wish {
                id: id.to_owned(),
                desired,
            })
        };
        match command {
            ServiceCommand::Restart => {
                self.order(wish(Desired::Run))?;
                self.order(Order::Restart(unit))
            }
            ServiceCommand::Start => self.order(wish(Desired::Run)),
            ServiceCommand::Stop => self.order(wish(Desired::Stopped)),
        }
    }

    fn power(&self, how: Power) -> Result<(), String> {
        self.link.ask(&Request::Power(how));
        Ok(())
    }

    fn set_network(
        &self,
        link: String,
        wish: network::Wish,
        seconds: u64,
    ) -> Asked<'_, ChangeTaken> {
        Box::pin(async move {
            let ask = |id| Request::SetNetwork {
                id,
                link,
                wish,
                seconds,
            };
            match self.questions.ask(&self.link, ask).await? {
                Event::NetworkSet { result, .. } => result,
                _ => Err(OTHER.to_owned()),
            }
        })
    }

    fn confirm_network(&self, token: Secret) -> Asked<'_, bool> {
        Box::pin(async move {
            let ask = |id| Request::ConfirmNetwork {
                id,
                from: None,
                token,
            };
            match self.questions.ask(&self.link, ask).await? {
                Event::NetworkConfirmed { result, .. } => result.map_err(|e| e.to_string()),
                _ => Err(OTHER.to_owned()),
            }
        })
    }

    fn set_general(&self, setting: GeneralSetting) -> Asked<'_, ()> {
        Box::pin(async move {
            let ask = |id| Request::SetGeneral { id, setting };
            match self.questions.ask(&self.link, ask).await? {
                Event::Acted { result, .. } => result,
                _ => Err(OTHER.to_owned()),
            }
        })
    }

    fn undo_network(&self) -> Asked<'_, ()> {
        Box::pin(async move {
            let ask = |id| Request::UndoNetwork { id };
            match self.questions.ask(&self.link, ask).await? {
                Event::Acted { result, .. } => result,
                _ => Err(OTHER.to_owned()),
            }
        })
    }

    fn restart_role(&self, role: &UnitName) -> Result<(), String> {
        if !self
            .snapshot
            .borrow()
            .status
            .roles
            .iter()
            .any(|info| info.unit == *role)
        {
            return Err(format!("there is no part called {role}"));
        }
        self.link.ask(&Request::RestartRole { unit: role.clone() });
        Ok(())
    }

    fn upgrade(&self, program: OwnedFd) -> Result<(), String> {
        if !self.snapshot.borrow().status.init.upgrade.is_over() {
            return Err("another upgrade is under way; `pilot init status` shows it".to_owned());
        }
        self.link.ask_with(&Request::Upgrade, &[program.as_fd()]);
        Ok(())
    }

    #[cfg(feature = "fault")]
    fn fault(&self, kind: &str) -> Result<(), String> {
        if kind == "service" {
            let (request, plan) = super::fault::service()?;
            self.link.ask_with(&request, &[plan.as_fd()]);
            return Ok(());
        }
        super::fault::inject(kind, &tokio::runtime::Handle::current())
    }

    fn setup_code(&self) -> Option<String> {
        self.setup_code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn line(line: supervise::log_query::LogLine) -> LogLine {
    LogLine {
        at: line.unix_ms,
        unit: line.unit.to_string(),
        priority: line.level as u8,
        text: line.text,
    }
}

const OTHER: &str = "PID 1 answered another question";
/// More than a person can click.
const MAX_ORDERS: usize = 64;
