//! Every listening socket of the box. PID 1 binds and keeps them, so that while a role is being
//! replaced connections wait in the kernel instead of failing.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::Path,
    sync::Arc,
};

use rustix::net::{
    AddressFamily, SocketAddrV4, SocketAddrV6, SocketFlags, SocketType, bind, listen, socket_with,
    sockopt,
};

use super::roles::FRONT_ID;

/// The listening sockets.
#[derive(Debug)]
pub struct Sockets {
    /// The front's, by port.
    pub door: BTreeMap<u16, Arc<OwnedFd>>,
    /// The dashboard's: the front connects to it.
    pub dashboard: UnixListener,
    /// The same API for root on the box itself.
    pub api: UnixListener,
    /// Where `logd` is asked for lines.
    pub log: UnixListener,
}

impl Sockets {
    /// Binds them all. What can't be bound is left out and told of.
    ///
    /// # Errors
    /// When a Unix socket can't be made: then /run is not what it should be.
    pub fn bind() -> io::Result<(Self, Vec<String>)> {
        fs::create_dir_all(format!("{RUN}/agents"))?;
        fs::set_permissions(RUN, Permissions::from_mode(0o755))?;
        let mut sockets = Self {
            door: BTreeMap::new(),
            dashboard: unix("dashboard.sock", 0o660, Some(FRONT_ID))?,
            api: unix("api.sock", 0o600, None)?,
            log: unix(
                "log.sock",
                0o660,
                Some(super::roles::Role::Manager.user().gid),
            )?,
        };
        let mut trouble = Vec::new();
        for port in OWN {
            trouble.extend(sockets.open_port(port).err());
        }
        Ok((sockets, trouble))
    }

    /// Binds a port for the front if it is not bound yet. Returns the new listener.
    pub fn open_port(&mut self, port: u16) -> Result<Option<Arc<OwnedFd>>, String> {
        if self.door.contains_key(&port) {
            return Ok(None);
        }
        let listener = if port == PROBE {
            loopback(port)
        } else {
            everywhere(port)
        };
        let listener = listener.map_err(|e| format!("port {port} can't be opened: {e}"))?;
        let listener = Arc::new(listener);
        self.door.insert(port, listener.clone());
        Ok(Some(listener))
    }

    /// The ports that others than the box itself may connect to.
    pub fn open_to_all(&self) -> Vec<u16> {
        let ports = self.door.keys().copied();
        ports.filter(|port| *port != PROBE).collect()
    }

    /// Gives up the ports that are neither the door's own nor among `wanted`, and says which. Each
    /// stays open for as long as the front holds it.
    pub fn close_ports_but(&mut self, wanted: &[u16]) -> Vec<u16> {
        let unwanted =
            |port: &u16, _: &mut Arc<OwnedFd>| !OWN.contains(port) && !wanted.contains(port);
        self.door
            .extract_if(.., unwanted)
            .map(|(port, _)| port)
            .collect()
    }
}

/// Where a service's agent finds the manager: `agent.sock` in a folder of its own, which the
/// monitor puts into the container. Whoever is in the container may connect.
pub fn agent_listener(id: &str) -> io::Result<OwnedFd> {
    let folder = format!("{RUN}/agents/{id}");
    fs::create_dir_all(&folder)?;
    let listener = unix_at(Path::new(&folder).join("agent.sock").as_path())?;
    fs::set_permissions(
        format!("{folder}/agent.sock"),
        Permissions::from_mode(0o666),
    )?;
    Ok(listener.into())
}

/// Where the door finds, within the front, who lets owners in: a new one for each front.
pub fn owner_listener() -> io::Result<UnixListener> {
    let listener = unix_at(Path::new(OWNERS))?;
    own(Path::new(OWNERS), 0o660, Some(FRONT_ID))?;
    Ok(listener)
}

/// Where names are asked for at one of the box's addresses, which may be there later: datagrams and
/// connections.
pub fn asked_for_names(address: IpAddr) -> io::Result<(OwnedFd, OwnedFd)> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = |kind| {
        let socket = socket_with(family, kind, flags, None)?;
        sockopt::set_ip_freebind(&socket, true)?;
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(address, DNS))?;
        Ok::<_, io::Error>(socket)
    };
    let (datagrams, listener) = (open(SocketType::DGRAM)?, open(SocketType::STREAM)?);
    // What is asked while the front is being replaced waits in the kernel.
    let _ = sockopt::set_socket_recv_buffer_size(&datagrams, QUESTIONS);
    listen(&listener, BACKLOG)?;
    Ok((datagrams, listener))
}

fn unix(name: &str, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    let path = Path::new(RUN).join(name);
    let listener = unix_at(&path)?;
    own(&path, mode, group)?;
    Ok(listener)
}

fn own(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(0), group)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn unix_at(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn loopback(port: u16) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// One socket for IPv6 and IPv4; for IPv4 alone on a kernel without the other.
fn everywhere(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None) {
        Ok(socket) => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_ipv6_v6only(&socket, false)?;
            bind(
                &socket,
                &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0),
            )?;
            socket
        }
        Err(_) => {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(
                &socket,
                &SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port),
            )?;
            socket
        }
    };
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The dashboard and, by host name, the services.
pub const HTTPS: u16 = 443;
/// Redirects to HTTPS, and gives the CA certificate.
pub const HTTP: u16 = 80;
/// On loopback alone: the guard asks here whether the door still works.
pub const PROBE: u16 = 7780;
/// Names.
pub const DNS: u16 = 53;
/// The ports that are the door's own, whatever services there are.
pub const OWN: [u16; 3] = [HTTPS, HTTP, PROBE];

/// Where [`owner_listener`] listens.
pub const OWNERS: &str = "/run/pilot/owner.sock";

/// Our folder for sockets.
const RUN: &str = "/run/pilot";

/// Connections that wait while the front is being replaced: some seconds of a busy box.
const BACKLOG: i32 = 1024;
/// Bytes of questions that wait, as the kernel counts them: a thousand.
const QUESTIONS: usize = 1 << 20;
