//! What the filter lets through: the rules of the box, chain by chain.

use std::net::Ipv6Addr;

use super::{
    super::config::{Bridge, Forward, NetConfig, Transport},
    FAMILY_INET, Rules,
    expression::Operator::{Equal, NotEqual},
    guard::Set,
    term::Term,
};

/// What the filter is to let through; nothing is filtered by the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    bridge: Option<Bridge>,
    forwards: Vec<Forward>,
    /// TCP ports of the box itself; none leaves all of it open.
    open: Option<Vec<u16>>,
    /// Whether everybody may ask the box for names, not only services.
    names: bool,
}

/// A chain with its rules.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) rules: Vec<Vec<Term>>,
    /// What it is, when the kernel refuses it.
    pub(super) about: &'static str,
}

/// Where on a packet's way a chain is.
#[derive(Clone, Debug)]
pub(crate) enum Hook {
    /// Where frames come off these links, before bridges and all else.
    Ingress(Vec<String>),
    /// Before all else that is IP.
    Raw,
    /// Towards the box itself.
    Input,
    /// Through the box.
    Forward,
    /// From the box itself.
    Output,
    /// Where the target may be changed.
    TargetNat,
    /// Where the source may be changed.
    SourceNat,
}

impl Policy {
    /// That of a configuration.
    pub(crate) fn of(config: &NetConfig) -> Self {
        let first = |ports: &Vec<u16>| ports.iter().copied().take(MAX_OPEN).collect();
        Self {
            bridge: config.bridge.clone(),
            forwards: config.forwards.iter().copied().take(MAX_FORWARDS).collect(),
            open: config.open_ports.as_ref().map(first),
            names: config.dns.lan,
        }
    }

    /// Services are let in to what everybody is, and to the name server; they do not configure the
    /// box's network, which on a link to the outside routers and DHCP servers do.
    fn input(&self, open: &[u16]) -> Vec<Vec<Term>> {
        let mut rules = vec![
            vec![Term::Answer, Term::Accept],
            vec![Term::From(Equal, "lo".to_owned()), Term::Accept],
            vec![Term::Icmp(8, "echo-request"), Term::Accept],
            vec![Term::Icmpv6(128, "echo-request"), Term::Accept],
            vec![Term::Icmpv6(135, "nd-neighbor-solicit"), Term::Accept],
            vec![Term::Icmpv6(136, "nd-neighbor-advert"), Term::Accept],
        ];
        let open = open.iter().map(|port| Term::Port(Transport::Tcp, *port));
        rules.extend(open.map(|port| vec![port, Term::Accept]));
        if let Some(bridge) = &self.bridge {
            let from = Term::From(Equal, bridge.name.clone());
            let names = names().map(|port| vec![from.clone(), port, Term::Accept]);
            rules.extend(names);
            rules.push(vec![from, Term::Drop]);
        }
        rules.extend([
            vec![Term::Icmpv6(134, "nd-router-advert"), Term::Accept],
            vec![Term::Icmpv6(130, "mld-listener-query"), Term::Accept],
            // Without an answer to these, switches keep multicast DNS from the box.
            vec![Term::Protocol(2, "igmp"), Term::Accept],
            // Answers to what was broadcast are none that the kernel knows for such.
            vec![Term::Ipv4, Term::Udp(67, 68), Term::Accept],
            vec![
                Term::Source6(Equal, LINK_LOCAL.0, LINK_LOCAL.1),
                Term::Udp(547, 546),
                Term::Accept,
            ],
            vec![Term::Port(Transport::Udp, MDNS), Term::Accept],
        ]);
        if self.names {
            rules.extend(names().map(|port| vec![port, Term::Accept]));
        }
        // Not by the chain's policy, which the kernel does not switch together with the rules.
        rules.push(vec![Term::Drop]);
        rules
    }
}

impl Rules for Policy {
    const FAMILY: u8 = FAMILY_INET;
    const ALWAYS_ANEW: bool = false;
    const WITHOUT: &'static str = "Nothing is filtered and services have no network beyond the box";

    fn is_needed(&self) -> bool {
        self.bridge.is_some() || self.open.is_some()
    }

    fn sets(&self) -> Vec<Set> {
        Vec::new()
    }

    fn chains(&self) -> Vec<Chain> {
        let with_forwarded = !self.forwards.is_empty();
        let bridge = self.bridge.as_ref();
        let rules = |rules: Option<Vec<Vec<Term>>>| rules.unwrap_or_default();
        let redirects = self.forwards.iter().map(redirect).collect();
        vec![
            Chain {
                name: "input",
                hook: Hook::Input,
                rules: rules(self.open.as_ref().map(|open| self.input(open))),
                about: "the rules for what comes in",
            },
            Chain {
                name: "spoof",
                hook: Hook::Raw,
                rules: rules(bridge.map(spoof)),
                about: "the rules for services' addresses",
            },
            Chain {
                name: "forward",
                hook: Hook::Forward,
                rules: rules(bridge.map(|bridge| forward(bridge, with_forwarded))),
                about: "the rules for services' packets",
            },
            Chain {
                name: "output",
                hook: Hook::Output,
                rules: rules(bridge.map(|bridge| vec![unredirected(bridge)])),
                about: "the rule for redirects",
            },
            Chain {
                name: "postrouting",
                hook: Hook::SourceNat,
                rules: rules(bridge.map(|bridge| source_nat(bridge, with_forwarded))),
                about: "the masquerade",
            },
            Chain {
                name: "prerouting",
                hook: Hook::TargetNat,
                rules: rules(bridge.map(|_| redirects)),
                about: "the forwarded ports",
            },
        ]
    }
}

impl Chain {
    pub(crate) fn listing(&self) -> Vec<String> {
        let ingress;
        let hook = match &self.hook {
            Hook::Ingress(links) => {
                ingress = match links.as_slice() {
                    [one] => format!("type filter hook ingress device \"{one}\" priority filter"),
                    all => {
                        let all = all.join(", ");
                        format!("type filter hook ingress devices = {{ {all} }} priority filter")
                    }
                };
                &ingress
            }
            Hook::Raw => "type filter hook prerouting priority raw",
            Hook::Input => "type filter hook input priority filter",
            Hook::Forward => "type filter hook forward priority filter",
            Hook::Output => "type filter hook output priority filter",
            Hook::TargetNat => "type nat hook prerouting priority dstnat",
            Hook::SourceNat => "type nat hook postrouting priority srcnat",
        };
        let begin = [
            format!("chain {} {{", self.name),
            format!("    {hook}; policy accept;"),
        ];
        let rules = self.rules.iter().map(|rule| {
            let terms: Vec<_> = rule.iter().map(Term::to_string).collect();
            format!("    {}", terms.join(" "))
        });
        let end = std::iter::once("}".to_owned());
        begin.into_iter().chain(rules).chain(end).collect()
    }
}

/// A service sends with an address of the services' network, or, over IPv6, of the link.
fn spoof(bridge: &Bridge) -> Vec<Vec<Term>> {
    let from = Term::From(Equal, bridge.name.clone());
    let (link_local, prefix) = LINK_LOCAL;
    vec![
        vec![
            from.clone(),
            Term::Source(NotEqual, bridge.address, bridge.prefix),
            Term::Drop,
        ],
        vec![
            from,
            Term::Source6(NotEqual, link_local, prefix),
            // Whoever asks whether an address is free has none yet.
            Term::Source6(NotEqual, Ipv6Addr::UNSPECIFIED, 128),
            Term::Drop,
        ],
    ]
}

fn forward(bridge: &Bridge, with_forwarded: bool) -> Vec<Vec<Term>> {
    let mut rules = vec![
        vec![Term::Answer, Term::Accept],
        vec![
            Term::From(Equal, bridge.name.clone()),
            Term::To(NotEqual, bridge.name.clone()),
            Term::Accept,
        ],
    ];
    if with_forwarded {
        rules.push(vec![
            Term::To(Equal, bridge.name.clone()),
            Term::Redirected,
            Term::Accept,
        ]);
    }
    rules.push(vec![Term::Drop]);
    rules
}

/// A service that is forwarded to another must not be told to send to it directly: it can't.
fn unredirected(bridge: &Bridge) -> Vec<Term> {
    vec![
        Term::To(Equal, bridge.name.clone()),
        Term::Icmp(5, "redirect"),
        Term::Drop,
    ]
}

/// A service that is sent to another by a forwarded port must be answered by way of the box, or it
/// would not know the answer.
fn source_nat(bridge: &Bridge, with_forwarded: bool) -> Vec<Vec<Term>> {
    let from = Term::Source(Equal, bridge.address, bridge.prefix);
    let mut rules = Vec::new();
    if bridge.nat {
        rules.push(vec![
            from.clone(),
            Term::To(NotEqual, bridge.name.clone()),
            Term::Masquerade,
        ]);
    }
    if with_forwarded {
        rules.push(vec![
            from,
            Term::To(Equal, bridge.name.clone()),
            Term::Redirected,
            Term::Masquerade,
        ]);
    }
    rules
}

/// What comes to a port of the box, from wherever, goes to a service.
fn redirect(forward: &Forward) -> Vec<Term> {
    vec![
        Term::ForTheBox,
        Term::Port(forward.transport, forward.port),
        Term::Redirect(forward.to),
    ]
}

fn names() -> impl Iterator<Item = Term> {
    [Transport::Udp, Transport::Tcp]
        .into_iter()
        .map(|transport| Term::Port(transport, DNS))
}

const DNS: u16 = 53;
const MDNS: u16 = 5353;
/// The network that IPv6 addresses good on one link are of.
const LINK_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// More than any box forwards; a transaction of so many still fits a socket's buffer.
pub(super) const MAX_FORWARDS: usize = 128;
/// As many ports as the box ever opens itself.
pub(super) const MAX_OPEN: usize = 128;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    fn chain(config: &NetConfig, name: &str) -> Option<Vec<String>> {
        let chains = Policy::of(config).chains();
        let chain = chains.iter().find(|chain| chain.name == name)?;
        Some(chain.listing())
    }

    fn forwarding(transport: Transport) -> Forward {
        Forward {
            transport,
            port: 2222,
            to: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), 7000),
        }
    }

    #[test]
    fn each_forwarded_port_is_a_rule_and_without_one_there_is_no_chain_for_them() {
        let mut config = NetConfig::default();
        assert_eq!(chain(&config, "prerouting").expect("a chain").len(), 3);
        let before = chain(&config, "forward").expect("a chain").len();
        config.forwards = vec![forwarding(Transport::Tcp), forwarding(Transport::Udp)];
        let rules = chain(&config, "prerouting").expect("a chain");
        let rule = "    fib daddr type local udp dport 2222 dnat ip to 10.77.0.2:7000";
        assert_eq!(rules[3], rule);
        assert_eq!(rules.len(), 5);
        let after = chain(&config, "forward").expect("a chain").len();
        assert_eq!(after, before + 1, "what is forwarded is let through");
    }

    #[test]
    fn without_nat_nothing_is_masqueraded_but_what_goes_to_a_neighbour() {
        let mut config = NetConfig::default();
        config.bridge.as_mut().expect("a bridge").nat = false;
        assert_eq!(chain(&config, "postrouting").expect("a chain").len(), 3);
        config.forwards = vec![forwarding(Transport::Tcp)];
        assert_eq!(chain(&config, "postrouting").expect("a chain").len(), 4);
    }

    #[test]
    fn the_box_is_filtered_without_a_bridge_too_but_not_unasked() {
        let mut config = NetConfig {
            bridge: None,
            ..NetConfig::default()
        };
        assert!(!Policy::of(&config).is_needed());
        config.open_ports = Some(vec![443]);
        let policy = Policy::of(&config);
        assert!(policy.is_needed());
        let input = chain(&config, "input").expect("a chain");
        assert_eq!(input[input.len() - 2..], ["    drop", "}"]);
        assert_eq!(chain(&config, "forward").expect("a chain").len(), 3);
        assert!(input.contains(&"    tcp dport 443 accept".to_owned()));
        assert!(!input.iter().any(|rule| rule.contains("dport 53 ")));
        config.dns.lan = true;
        let input = chain(&config, "input").expect("a chain");
        assert!(input.contains(&"    udp dport 53 accept".to_owned()));
    }

    #[test]
    fn services_do_not_configure_the_box() {
        let config = NetConfig {
            open_ports: Some(Vec::new()),
            ..NetConfig::default()
        };
        let input = chain(&config, "input").expect("a chain");
        let at = |what: &str| input.iter().position(|rule| rule.contains(what));
        let end = at("iifname \"pilot0\" drop").expect("an end for services");
        for what in ["router-advert", "547", "sport 67", "5353"] {
            assert!(at(what).expect(what) > end, "{what}");
        }
        assert!(at("dport 53 ").expect("names") < end);
    }
}
