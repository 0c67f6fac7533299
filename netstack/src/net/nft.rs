//! The box's packet filter: two nftables tables, each replaced as a whole in one transaction.
//!
//! What comes in to the box itself is dropped unless its own protocols need it, it is for one of the
//! open ports, or it answers what the box asked. Services may go out, with the box's address as
//! theirs; nothing from outside may come in to them but answers, and what is forwarded to them by
//! port, which a service may use too; else services do not reach each other by way of the box (on
//! the bridge itself, its ports are isolated). What comes through the front door is not forwarding.
//! All that is the table `inet pilot`, by `policy`. The table `netdev pilot`, by `guard`, keeps
//! services from taking each other's addresses.
//!
//! The kernel applies a batch all or not at all, and says which frame it refused. Where it can (Linux
//! 6.9), a table is owned by the socket that made it: nobody else changes or flushes it, and it
//! stays when the socket is closed, so that a successor finds it and replaces it.

mod expression;
mod guard;
mod policy;
mod term;

use rustix::io::Errno;

pub(crate) use self::{guard::Guard, policy::Policy};

use self::{
    guard::Set,
    policy::{Chain, Hook},
    term::Term,
};
use super::netlink::{APPEND, CREATE, Frame, Request, attr, text};

/// What one of the tables is to have in it.
pub(crate) trait Rules: Clone + PartialEq {
    /// The kernel's number of the table's family.
    const FAMILY: u8;
    /// Whether the table is made anew for each change, so that nothing of the old one stays. Else its
    /// chains stay.
    const ALWAYS_ANEW: bool;
    /// What is so while it is not in force, and begins a sentence.
    const WITHOUT: &'static str;

    /// Whether there is to be a table.
    fn is_needed(&self) -> bool;

    /// Always the same sets.
    fn sets(&self) -> Vec<Set>;

    /// Always the same chains, so that to replace the rules is enough; some may be empty.
    fn chains(&self) -> Vec<Chain>;

    /// The table as `nft list table` shows it, one line after another.
    fn listing(&self) -> Vec<String> {
        let (sets, chains) = (self.sets(), self.chains());
        let sets = sets.iter().flat_map(Set::listing);
        sets.chain(chains.iter().flat_map(Chain::listing)).collect()
    }
}

/// A transaction's bytes, and how many acknowledgements mean that it is in force.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    first: u32,
    /// What each numbered frame is about, for the sentence when it is refused.
    frames: Vec<&'static str>,
    acknowledged: usize,
}

/// Who may change the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Whoever may change any.
    Everybodys,
    /// The socket that made it.
    Ours,
}

/// How a transaction went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In force.
    Applied,
    /// Not in force; nothing was changed.
    Refused(Errno, &'static str),
}

impl Batch {
    /// Replaces the table by the one for this policy, numbering frames from `sequence`.
    ///
    /// With `anew`, the table is removed first, whatever is in it. Else its chains stay and only their
    /// rules are replaced, which each packet sees as one step; chains that replace others are not
    /// hooked in the same instant as those are unhooked.
    pub(crate) fn replace<R: Rules>(
        wanted: &R,
        ownership: Ownership,
        anew: bool,
        sequence: u32,
    ) -> Self {
        let mut batch = Self::begin(sequence);
        if anew || R::ALWAYS_ANEW {
            batch.clear(R::FAMILY);
        }
        let table = table(R::FAMILY, NEW_TABLE, CREATE);
        match ownership {
            Ownership::Everybodys => batch.add("the table", table),
            Ownership::Ours => batch.add(OWNED_TABLE, table.be32(TABLE_FLAGS, OWNER | PERSIST)),
        }
        batch.add(
            "the old rules",
            request(R::FAMILY, DEL_RULE, 0).text(RULE_TABLE, TABLE),
        );
        for set in wanted.sets() {
            batch.add("the sets", self::set(R::FAMILY, &set));
            batch.add("the sets", elements(R::FAMILY, &set));
        }
        for chain in wanted.chains() {
            batch.add(chain.about, self::chain(R::FAMILY, &chain));
            for rule in &chain.rules {
                batch.add(chain.about, self::rule(R::FAMILY, chain.name, rule));
            }
        }
        batch.end()
    }

    /// Removes the table.
    pub(crate) fn remove<R: Rules>(sequence: u32) -> Self {
        let mut batch = Self::begin(sequence);
        batch.clear(R::FAMILY);
        batch.end()
    }

    /// Takes in what the kernel answered. The first refusal, or the last acknowledgement, decides.
    pub(crate) fn answered(&mut self, frame: &Frame<'_>) -> Option<Verdict> {
        let verdict = frame.verdict()?;
        let number = frame.sequence.wrapping_sub(self.first) as usize;
        let about = *self.frames.get(number)?;
        match verdict {
            Err(errno) => Some(Verdict::Refused(errno, about)),
            Ok(()) => {
                self.acknowledged += 1;
                // The two frames that bracket the batch are not acknowledged.
                (self.acknowledged + 2 == self.frames.len()).then_some(Verdict::Applied)
            }
        }
    }

    fn begin(sequence: u32) -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(BATCH_CAPACITY),
            first: sequence,
            frames: Vec::new(),
            acknowledged: 0,
        };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// Deleting what may not be there is refused, so it is made first.
    fn clear(&mut self, family: u8) {
        self.add("the table", table(family, NEW_TABLE, CREATE));
        self.add("the old table", table(family, DEL_TABLE, 0));
    }

    fn add(&mut self, about: &'static str, request: Request) {
        let number = self.next();
        self.bytes.extend(request.acknowledged(number));
        self.frames.push(about);
    }

    fn bracket(&mut self, kind: u16) {
        let request = Request::new(kind, 0, &header(0, SUBSYSTEM));
        let number = self.next();
        self.bytes.extend(request.numbered(number));
        self.frames.push("the transaction");
    }

    fn end(mut self) -> Self {
        self.bracket(BATCH_END);
        self
    }

    fn next(&self) -> u32 {
        self.first.wrapping_add(self.frames.len() as u32)
    }
}

/// Whether the frame tells that somebody changed our table or what is in it.
pub(super) fn tells_of_ours<R: Rules>(frame: &Frame<'_>) -> bool {
    let (Some([family, ..]), Some(body)) =
        (frame.payload.first_chunk::<4>(), frame.payload.get(4..))
    else {
        return false;
    };
    // The table's name is the first attribute of whatever is in a table.
    let name = attr(body, TABLE_NAME).map(text);
    frame.kind >> 8 == SUBSYSTEM
        && frame.kind & 0xff != NEW_GENERATION
        && *family == R::FAMILY
        && name.as_deref() == Some(TABLE)
}

fn table(family: u8, kind: u16, flags: u16) -> Request {
    request(family, kind, flags).text(TABLE_NAME, TABLE)
}

fn set(family: u8, set: &Set) -> Request {
    request(family, NEW_SET, CREATE)
        .text(SET_TABLE, TABLE)
        .text(SET_NAME, set.name)
        .be32(SET_KEY_TYPE, set.kind)
        .be32(SET_KEY_LEN, set.key_len())
        // Within a transaction each has a number too; here they go by their names.
        .be32(SET_ID, set.kind)
}

fn elements(family: u8, set: &Set) -> Request {
    request(family, NEW_SET_ELEMENTS, CREATE)
        .text(ELEMENTS_TABLE, TABLE)
        .text(ELEMENTS_SET, set.name)
        .nest(ELEMENTS_LIST, |list| {
            set.elements.iter().fold(list, |list, one| {
                list.nest(LIST_ELEMENT, |element| {
                    element.nest(ELEMENT_KEY, |key| key.attr(DATA_VALUE, &one.key))
                })
            })
        })
}

fn chain(family: u8, chain: &Chain) -> Request {
    let mut links: &[String] = &[];
    let (kind, hook, priority) = match &chain.hook {
        Hook::Ingress(all) => {
            links = all;
            ("filter", HOOK_INGRESS, PRIORITY_FILTER)
        }
        Hook::Raw => ("filter", HOOK_PREROUTING, PRIORITY_RAW),
        Hook::Input => ("filter", HOOK_INPUT, PRIORITY_FILTER),
        Hook::Forward => ("filter", HOOK_FORWARD, PRIORITY_FILTER),
        Hook::Output => ("filter", HOOK_OUTPUT, PRIORITY_FILTER),
        Hook::TargetNat => ("nat", HOOK_PREROUTING, PRIORITY_TARGET_NAT),
        Hook::SourceNat => ("nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT),
    };
    request(family, NEW_CHAIN, CREATE)
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, chain.name)
        .nest(CHAIN_HOOK, |chain| {
            let chain = chain
                .be32(HOOK_NUMBER, hook)
                .be32(HOOK_PRIORITY, priority as u32);
            if links.is_empty() {
                return chain;
            }
            chain.nest(HOOK_LINKS, |list| {
                links
                    .iter()
                    .fold(list, |list, link| list.text(LINK_NAME, link))
            })
        })
        .be32(CHAIN_POLICY, ACCEPT)
        .text(CHAIN_TYPE, kind)
}

fn rule(family: u8, chain: &str, terms: &[Term]) -> Request {
    request(family, NEW_RULE, CREATE | APPEND)
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |list| {
            let expressions = terms.iter().flat_map(Term::expressions);
            expressions.fold(list, |list, one| one.write(list))
        })
}

fn request(family: u8, kind: u16, flags: u16) -> Request {
    Request::new(SUBSYSTEM << 8 | kind, flags, &header(family, 0))
}

/// `struct nfgenmsg`: family, version, and the resource in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// What the kernel refuses if it knows no owners of tables.
pub(super) const OWNED_TABLE: &str = "the table's owner";

/// Both tables' name; nothing else of this name is touched.
pub(super) const TABLE: &str = "pilot";
/// More frames than a batch ever has.
pub(super) const FRAMES_MAX: u32 = 64 + (policy::MAX_FORWARDS + policy::MAX_OPEN) as u32;
/// All rules of the box with room to spare.
const BATCH_CAPACITY: usize = 4096;

// From linux/netfilter/nfnetlink.h, nf_tables.h, linux/netfilter.h and netfilter_ipv4.h.
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// NFPROTO_INET.
const FAMILY_INET: u8 = 1;
/// NFPROTO_NETDEV.
const FAMILY_NETDEV: u8 = 5;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_SET_ELEMENTS: u16 = 12;
/// Tells that something was changed, of whatever table.
const NEW_GENERATION: u16 = 15;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// NFT_TABLE_F_OWNER and NFT_TABLE_F_PERSIST.
const OWNER: u32 = 1 << 1;
const PERSIST: u32 = 1 << 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// NFTA_HOOK_DEVS and NFTA_DEVICE_NAME.
const HOOK_LINKS: u16 = 4;
const LINK_NAME: u16 = 1;
/// NF_NETDEV_INGRESS.
const HOOK_INGRESS: u32 = 0;
const HOOK_PREROUTING: u32 = 0;
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_TARGET_NAT: i32 = -100;
/// NF_ACCEPT.
const ACCEPT: u32 = 1;

#[cfg(test)]
pub(super) mod tests {
    use super::{super::netlink::frames, *};

    fn answer(sequence: u32, code: i32) -> Vec<u8> {
        Request::new(2, 0, &code.to_ne_bytes()).numbered(sequence)
    }

    fn hear(batch: &mut Batch, bytes: &[u8]) -> Option<Verdict> {
        frames(bytes)
            .next()
            .and_then(|frame| batch.answered(&frame))
    }

    /// What the kernel tells when the table `name` is removed.
    pub(in super::super) fn removal(name: &str) -> Request {
        request(FAMILY_INET, DEL_TABLE, 0).text(TABLE_NAME, name)
    }

    fn tells(request: Request) -> bool {
        let bytes = request.numbered(0);
        frames(&bytes)
            .next()
            .is_some_and(|frame| tells_of_ours::<Policy>(&frame))
    }

    #[test]
    fn a_batch_is_bracketed_and_numbered() {
        let batch = Batch::replace(&Policy::default(), Ownership::Ours, false, 100);
        let all: Vec<_> = frames(&batch.bytes).collect();
        assert_eq!(
            all.first().map(|f| (f.kind, f.sequence)),
            Some((BATCH_BEGIN, 100))
        );
        assert_eq!(all.last().map(|f| f.kind), Some(BATCH_END));
        assert!(
            all.windows(2)
                .all(|pair| pair[1].sequence == pair[0].sequence + 1)
        );
        assert_eq!(all.len(), batch.frames.len());
    }

    #[test]
    fn a_table_of_many_senders_is_few_frames_that_fit_a_socket_s_buffer() {
        let names: Vec<String> = (1..=400).map(|n| format!("pv{n}")).collect();
        let ports = names
            .iter()
            .zip(10..)
            .map(|(name, index)| (index, name.as_str()));
        let kernel = guard::tests::kernel(&ports.collect::<Vec<_>>());
        let guard = Guard::of(&super::super::config::NetConfig::default(), &kernel);
        let batch = Batch::replace(&guard, Ownership::Ours, false, 100);
        assert!(batch.frames.len() < FRAMES_MAX as usize);
        assert!(batch.bytes.len() < 128 << 10, "{}", batch.bytes.len());
        assert_eq!(frames(&batch.bytes).count(), batch.frames.len());
    }

    #[test]
    fn all_acknowledgements_mean_applied_and_one_refusal_does_not() {
        let mut batch = Batch::remove::<Policy>(7);
        assert_eq!(hear(&mut batch, &answer(8, 0)), None);
        assert_eq!(hear(&mut batch, &answer(9, 0)), Some(Verdict::Applied));
        let mut batch = Batch::replace(&Policy::default(), Ownership::Ours, true, 7);
        let refused = hear(&mut batch, &answer(10, -2));
        assert_eq!(refused, Some(Verdict::Refused(Errno::NOENT, OWNED_TABLE)));
        assert_eq!(hear(&mut batch, &answer(99, -2)), None, "somebody else's");
    }

    #[test]
    fn what_somebody_does_to_our_table_is_told_from_what_he_does_to_others() {
        assert!(tells(removal(TABLE)));
        assert!(tells(rule(FAMILY_INET, "input", &[Term::Accept])));
        assert!(!tells(removal("theirs")));
        let other_family = request(FAMILY_NETDEV, DEL_TABLE, 0).text(TABLE_NAME, TABLE);
        assert!(!tells(other_family), "another table of the same name");
        let generation = request(FAMILY_INET, NEW_GENERATION, 0).be32(1, 7);
        assert!(!tells(generation), "all changes have one");
        let answer = Request::new(2, 0, &[FAMILY_INET, 0, 0, 0]).text(TABLE_NAME, TABLE);
        assert!(!tells(answer), "of another subsystem");
    }
}
