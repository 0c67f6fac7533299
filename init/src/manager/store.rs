//! All of the manager that is on the data disk: packages, keys, what is to run, the authority.
//!
//! Used from the blocking pool alone: any call may hang as long as the disk does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Instant, SystemTime},
};

use netstack::door::Identity;
use services::{
    catalog::{Catalog, Found},
    package::Place,
    reader,
    reconcile::{Action, Inputs, Reconciler},
    registry::{Desired, Registry},
    trust::TrustStore,
    view::{Heard, ServiceView},
};
use supervise::unit::UnitInfo;

use super::authority::Issuer;

/// The store, opened.
pub(super) struct Store {
    registry: Registry,
    keys: TrustStore,
    catalog: Catalog,
    reconciler: Reconciler,
    issuer: Issuer,
}

/// What one look at everything needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// PID 1's process table.
    pub units: Vec<UnitInfo>,
    /// The agents' last reports.
    pub heard: BTreeMap<String, Heard>,
    /// What the owner wants changed.
    pub wishes: Vec<Wish>,
    /// The names that the door answers to, without the services' own.
    pub names: BTreeSet<String>,
    /// The box's host name.
    pub hostname: String,
}

/// What the owner wants of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Which service.
    pub id: String,
    /// Whether it is to run.
    pub desired: Desired,
}

/// What came of one look.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What is to be asked of PID 1.
    pub actions: Vec<Action>,
    /// The services as they are.
    pub services: Vec<ServiceView>,
    /// The door's certificate for all names, and the authority's.
    pub identity: Result<(Identity, String), String>,
}

impl Store {
    /// Opens it below `folder`, making what is not there yet.
    ///
    /// # Errors
    /// As a sentence, when something is there that can't be read.
    pub(super) fn open(folder: &Path, hostname: &str) -> Result<Self, String> {
        let issuer = Issuer::open(folder, hostname).map_err(|e| e.to_string())?;
        supervise::info!("the box's CA has the fingerprint {}", issuer.fingerprint());
        Ok(Self {
            registry: Registry::load(&folder.join("services.json")).map_err(|e| e.to_string())?,
            keys: TrustStore::load(&folder.join("keys.json")).map_err(|e| e.to_string())?,
            catalog: Catalog::new(Catalog::folders_of_the_box(), reader::read),
            reconciler: Reconciler::new(Place::default()),
            issuer,
        })
    }

    /// Looks at everything and says what is to be done.
    pub(super) fn look(&mut self, look: &Look) -> Outcome {
        for wish in &look.wishes {
            if let Err(e) = self.registry.set_desired(&wish.id, wish.desired) {
                supervise::warning!("{}: {e}", wish.id);
            }
        }
        let packages = self.catalog.scan(&mut self.keys);
        let inputs = Inputs {
            packages: Some(&packages),
            units: &look.units,
            heard: &look.heard,
            now: Instant::now(),
        };
        let actions = self.reconciler.step(&mut self.registry, &inputs);
        let mut names = look.names.clone();
        for id in packages.iter().filter_map(service_id) {
            names.insert(format!("{id}.{}.local", look.hostname));
            names.insert(format!("{id}.localhost"));
        }
        let identity = self
            .issuer
            .identity(names, SystemTime::now())
            .cloned()
            .map_err(|e| e.to_string());
        Outcome {
            actions,
            services: self.reconciler.view().to_vec(),
            identity: identity.map(|identity| (identity, self.issuer.pem().to_owned())),
        }
    }
}

fn service_id(found: &Found) -> Option<&str> {
    match found {
        Found::Package(package) => Some(&package.id),
        Found::Refused { .. } => None,
    }
}
