//! A package that was verified and can run: everything about it that the plan needs.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    plan::{AgentSpec, Daemon, FileIdentity, IdRange, Image, Network, Plan, Volume, is_inner_path},
    spec::{DaemonSpec, ServiceSpec},
};

/// A verified package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The service's id: 1 to 40 of `[a-z0-9-]`.
    pub id: String,
    /// Its title for people.
    pub title: String,
    /// Its version, as the package has it.
    pub version: String,
    /// The package file.
    pub path: PathBuf,
    /// The file that was verified.
    pub identity: FileIdentity,
    /// Its images for this machine, by name.
    pub images: BTreeMap<String, PackageImage>,
    /// How it runs.
    pub spec: ServiceSpec,
}

/// An image of a package: where it is in the file, and how its author means it to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageImage {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// What runs in it unless the spec says otherwise.
    pub command: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its user.
    pub user: Option<String>,
    /// Its working folder.
    pub workdir: Option<PathBuf>,
}

/// The parts of a plan that are the box's, not the package's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below it, each service has its own folder with scratch and volumes.
    pub data: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/data/services"),
        }
    }
}

/// Why a verified package can't run on this box.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CannotRun {
    /// The spec names what the package does not have.
    #[error(
        "its daemon {daemon:?} runs from the image {image:?}, which the package lacks for this machine"
    )]
    NoImage {
        /// The daemon.
        daemon: String,
        /// The image.
        image: String,
    },
    /// More than one image.
    #[error("its daemons run from several images ({0}), and this version of Pilotlight runs one")]
    SeveralImages(String),
    /// Neither spec nor image say what to run.
    #[error("neither service.toml nor the image says what the daemon {0:?} runs; add a command")]
    NoCommand(String),
}

impl Package {
    /// What a monitor is to build for it, as the service with number `index`.
    pub fn plan(&self, index: u16, place: &Place) -> Result<Plan, CannotRun> {
        let image = self.only_image()?;
        let daemons = self.spec.daemons.iter().map(|daemon| merge(daemon, image));
        let own = place.data.join(&self.id);
        let volume = |(name, path): (&String, &PathBuf)| Volume {
            source: own.join("volumes").join(name),
            path: path.clone(),
        };
        let stop_timeout_ms = millis(self.spec.stop_timeout);
        Ok(Plan {
            id: self.id.clone(),
            hostname: self.id.clone(),
            image: Image {
                package: self.path.clone(),
                identity: self.identity,
                offset: image.offset,
                size: image.size,
            },
            ids: IdRange {
                base: FIRST_ID + u32::from(index) * IDS_EACH,
                count: IDS_EACH,
            },
            network: network(index),
            scratch: own.join("scratch"),
            volumes: self.spec.volumes.iter().map(volume).collect(),
            cgroup: format!("services/{}", self.id),
            agent: AgentSpec {
                daemons: daemons.collect::<Result<_, _>>()?,
                health: self.spec.health.clone(),
                stop_timeout_ms,
            },
        })
    }

    fn only_image(&self) -> Result<&PackageImage, CannotRun> {
        let mut names: Vec<&str> = self.spec.daemons.iter().map(|d| d.image.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let [name] = names.as_slice() else {
            return Err(CannotRun::SeveralImages(names.join(", ")));
        };
        self.images.get(*name).ok_or_else(|| CannotRun::NoImage {
            daemon: self.spec.daemons[0].name.clone(),
            image: (*name).to_owned(),
        })
    }
}

/// The address of the service with this number.
pub fn address(index: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(GATEWAY.to_bits() + u32::from(index))
}

/// The place of the service with this number on the services' network.
pub fn network(index: u16) -> Network {
    Network {
        bridge: BRIDGE.to_owned(),
        host_link: format!("pv{index}"),
        address: address(index),
        prefix: PREFIX,
        gateway: GATEWAY,
    }
}

/// What the spec says, and where it is silent, the image.
fn merge(daemon: &DaemonSpec, image: &PackageImage) -> Result<Daemon, CannotRun> {
    let command = daemon
        .command
        .clone()
        .unwrap_or_else(|| image.command.clone());
    if command.is_empty() {
        return Err(CannotRun::NoCommand(daemon.name.clone()));
    }
    let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    env.extend(image.env.clone());
    env.extend(daemon.env.clone());
    let image_workdir = image.workdir.clone().filter(|path| is_inner_path(path));
    Ok(Daemon {
        name: daemon.name.clone(),
        command,
        env,
        user: daemon.user.clone().or_else(|| image.user.clone()),
        workdir: daemon
            .workdir
            .clone()
            .or(image_workdir)
            .unwrap_or_else(|| Path::new("/").to_owned()),
        restart: daemon.restart,
    })
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The services' network: `pilot0` is the bridge's name and this the box's address on it.
const BRIDGE: &str = "pilot0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PREFIX: u8 = 16;

/// Above all users of the box itself and all that distributions hand out; the last service's range
/// ends far below 2^32.
const FIRST_ID: u32 = 1_000_000;
/// As many as a container image may name.
const IDS_EACH: u32 = 65_536;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A package as the catalog would hand it out.
    pub(crate) fn package(id: &str, toml: &str) -> Package {
        Package {
            id: id.to_owned(),
            title: format!("The {id}"),
            version: "1.0.0:0".to_owned(),
            path: PathBuf::from(format!("/packages/{id}.s9pk")),
            identity: FileIdentity {
                dev: 1,
                inode: 2,
                size: 9000,
                mtime_ns: 3,
                ctime_ns: 4,
            },
            images: BTreeMap::from([(
                "main".to_owned(),
                PackageImage {
                    offset: 4096,
                    size: 4096,
                    command: vec!["server".to_owned()],
                    env: BTreeMap::from([("A".to_owned(), "image".to_owned())]),
                    user: Some("www-data".to_owned()),
                    workdir: Some(PathBuf::from("/srv")),
                },
            )]),
            spec: ServiceSpec::parse(toml).unwrap(),
        }
    }

    const ONE: &str = "[[daemon]]\nname = 'web'\n[volumes]\ndata = '/data'";

    #[test]
    fn a_plan_takes_from_the_image_what_the_spec_leaves_open() {
        let plan = package("demo", ONE).plan(1, &Place::default()).unwrap();
        let daemon = &plan.agent.daemons[0];
        assert_eq!(daemon.command, ["server"]);
        assert_eq!(
            (daemon.user.as_deref(), daemon.env["A"].as_str()),
            (Some("www-data"), "image")
        );
        assert_eq!(
            plan.volumes[0].source,
            Path::new("/data/services/demo/volumes/data")
        );
        let spec = "[[daemon]]\nname = 'web'\ncommand = ['x']\nuser = '7'\nenv = { A = 'spec' }";
        let plan = package("demo", spec).plan(1, &Place::default()).unwrap();
        let daemon = &plan.agent.daemons[0];
        assert_eq!(
            (daemon.command[0].as_str(), daemon.env["A"].as_str()),
            ("x", "spec")
        );
        assert_eq!(daemon.user.as_deref(), Some("7"));
    }

    #[test]
    fn no_two_services_share_an_address_an_id_or_a_link() {
        let plan = |index| package("demo", ONE).plan(index, &Place::default()).unwrap();
        let (first, second) = (plan(1), plan(2));
        assert_eq!(first.network.address, Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(first.ids.base + first.ids.count, second.ids.base);
        assert_ne!(first.network.host_link, second.network.host_link);
        let last = plan(crate::registry::MAX_INDEX);
        assert!(last.ids.base.checked_add(last.ids.count).is_some());
        assert_eq!(last.network.address.octets()[..2], [10, 77]);
        assert!(
            last.network.host_link.len() < 16,
            "the kernel's limit of a link's name"
        );
    }

    #[test]
    fn what_can_not_run_says_why() {
        let mut package = package("demo", ONE);
        package.images.clear();
        let why = package.plan(1, &Place::default()).unwrap_err().to_string();
        assert!(why.contains("\"main\", which the package lacks"), "{why}");
    }
}
