//! A LAN: a router whose `lan0` is the switch that the others hang on.

use std::cell::RefCell;

use anyhow::Result;
use tests::{dhcp::Pool, netns::Machine};

/// The router, and with it the switch; its links to the others have the others' names.
pub(crate) struct Lan {
    pub(crate) router: Machine,
    pool: RefCell<Pool>,
}

impl Lan {
    /// A LAN with nobody on it but the router, whose address is the first of the pool's network.
    pub(crate) fn new(pool: Pool) -> Result<Self> {
        let router = Machine::new("router")?;
        router.run("ip link add lan0 type bridge forward_delay 0 stp_state 0")?;
        router.run(&format!("ip addr add {}/24 dev lan0", pool.address(1)))?;
        router.run("ip link set lan0 up")?;
        // A switch has a carrier also while nobody is on it.
        router.run("ip link add spare0 type veth peer name spare1")?;
        router.run("ip link set spare1 up")?;
        router.run("ip link set spare0 master lan0 up")?;
        Ok(Self {
            router,
            pool: RefCell::new(pool),
        })
    }

    /// A machine whose `link` hangs on the LAN; the link itself is down.
    pub(crate) fn machine(&self, name: &str, link: &str) -> Result<Machine> {
        let machine = Machine::new(name)?;
        machine.cable(link, &self.router, name)?;
        self.attach(name)?;
        self.plug(name)?;
        Ok(machine)
    }

    /// Puts a machine's cable in.
    pub(crate) fn plug(&self, name: &str) -> Result<()> {
        self.router.run(&format!("ip link set {name} up"))?;
        Ok(())
    }

    /// Pulls a machine's cable out.
    pub(crate) fn unplug(&self, name: &str) -> Result<()> {
        self.router.run(&format!("ip link set {name} down"))?;
        Ok(())
    }

    /// Lets a machine hear the others.
    pub(crate) fn attach(&self, name: &str) -> Result<()> {
        self.router
            .run(&format!("ip link set {name} master lan0"))?;
        Ok(())
    }

    /// Leaves a machine with its carrier, but alone.
    pub(crate) fn detach(&self, name: &str) -> Result<()> {
        self.router.run(&format!("ip link set {name} nomaster"))?;
        Ok(())
    }

    /// Gives the router the first address of another network in place of its own.
    pub(crate) fn renumber(&self, pool: Pool) -> Result<()> {
        let old = self.pool.replace(pool);
        self.router
            .run(&format!("ip addr del {}/24 dev lan0", old.address(1)))?;
        self.router
            .run(&format!("ip addr add {}/24 dev lan0", pool.address(1)))?;
        Ok(())
    }
}
