//! Attributes of a link: those that are asked for, or those that it had.

use kernel::MacAddress;
use kernel::link::{self, Link};
use kernel::netlink::Message;

/// Attributes of a link; none where nothing is said about one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The hardware address.
    pub(crate) mac: Option<MacAddress>,
    /// The largest packet in bytes.
    pub(crate) mtu: Option<u32>,
    /// Whether it hears frames for any address.
    pub(crate) promiscuous: Option<bool>,
    /// Whether it hears frames for all groups.
    pub(crate) all_multicast: Option<bool>,
    /// How many packets may wait to be sent.
    pub(crate) transmit_queue: Option<u32>,
}

impl Attributes {
    /// What the link has of each attribute that is `asked` for.
    pub(crate) fn of(link: &Link, asked: &Attributes) -> Attributes {
        Attributes {
            mac: asked.mac.and(link.mac),
            mtu: asked.mtu.and(Some(link.mtu)),
            promiscuous: asked.promiscuous.and(Some(link.is_promiscuous())),
            all_multicast: asked.all_multicast.and(Some(link.is_all_multicast())),
            transmit_queue: asked.transmit_queue.and(Some(link.transmit_queue)),
        }
    }

    /// These, and `others` where these say nothing.
    pub(crate) fn or(self, others: Attributes) -> Attributes {
        Attributes {
            mac: self.mac.or(others.mac),
            mtu: self.mtu.or(others.mtu),
            promiscuous: self.promiscuous.or(others.promiscuous),
            all_multicast: self.all_multicast.or(others.all_multicast),
            transmit_queue: self.transmit_queue.or(others.transmit_queue),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }

    /// What gives a link these attributes. The MTU is the last: below 1280 bytes a link loses its IPv6
    /// addresses, which nothing brings back.
    pub(crate) fn requests(&self, index: u32) -> Vec<Message> {
        let requests = [
            self.mac.map(|mac| link::set_mac(index, mac)),
            self.promiscuous.map(|on| link::set_promiscuous(index, on)),
            self.all_multicast.map(|on| link::set_all_multicast(index, on)),
            self.transmit_queue.map(|packets| link::set_transmit_queue(index, packets)),
            self.mtu.map(|mtu| link::set_mtu(index, mtu)),
        ];
        requests.into_iter().flatten().collect()
    }

    /// What the link has not as it is said here.
    pub(crate) fn difference(&self, link: &Link) -> Option<String> {
        let now = Attributes::of(link, self);
        let name = &link.name;
        let text = |mac: Option<MacAddress>| mac.map(|mac| mac.to_string()).unwrap_or_default();
        let mode = |on: Option<bool>| if on == Some(true) { "on" } else { "off" };
        let number = |value: Option<u32>| value.unwrap_or_default();
        if now.mac != self.mac {
            return Some(format!(
                "{name:?} has the MAC address {}, not {}",
                text(now.mac),
                text(self.mac)
            ));
        }
        if now.mtu != self.mtu {
            return Some(format!(
                "{name:?} has the MTU {}, not {}",
                number(now.mtu),
                number(self.mtu)
            ));
        }
        if now.promiscuous != self.promiscuous {
            return Some(format!("promiscuous mode of {name:?} is {}", mode(now.promiscuous)));
        }
        if now.all_multicast != self.all_multicast {
            return Some(format!("all-multicast mode of {name:?} is {}", mode(now.all_multicast)));
        }
        let (queue, wanted) = (number(now.transmit_queue), number(self.transmit_queue));
        (queue != wanted).then(|| format!("{name:?} has a transmit queue of {queue}, not {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Attributes = Attributes {
        mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
        mtu: Some(1400),
        promiscuous: Some(true),
        all_multicast: Some(false),
        transmit_queue: Some(7),
    };

    fn link(attributes: &Attributes) -> Link {
        let flag = |on: Option<bool>, flag: i32| if on == Some(true) { flag as u32 } else { 0 };
        const PROMISC: i32 = 0x100;
        const ALLMULTI: i32 = 0x200;
        Link {
            mac: attributes.mac,
            mtu: attributes.mtu.unwrap_or_default(),
            flags: flag(attributes.promiscuous, PROMISC) | flag(attributes.all_multicast, ALLMULTI),
            transmit_queue: attributes.transmit_queue.unwrap_or_default(),
            ..Link::default()
        }
    }

    #[test]
    fn each_attribute_that_is_asked_for_is_compared_and_no_other() {
        assert_eq!(ASKED.difference(&link(&ASKED)), None);
        for (other, words) in [
            (Attributes { mac: None, ..ASKED }, "MAC"),
            (Attributes { mtu: Some(1500), ..ASKED }, "MTU 1500, not 1400"),
            (Attributes { promiscuous: Some(false), ..ASKED }, "promiscuous mode of \"\" is off"),
            (Attributes { all_multicast: Some(true), ..ASKED }, "all-multicast mode of \"\" is on"),
            (Attributes { transmit_queue: Some(8), ..ASKED }, "queue of 8, not 7"),
        ] {
            let found = ASKED.difference(&link(&other)).unwrap_or_default();
            assert!(found.contains(words), "{words}: {found}");
            assert_eq!(Attributes::default().difference(&link(&other)), None);
        }
    }

    #[test]
    fn only_what_is_asked_for_is_remembered_and_the_older_memory_wins() {
        let asked = Attributes { mtu: Some(9000), ..Attributes::default() };
        let now = Attributes::of(&link(&ASKED), &asked);
        assert_eq!(now, Attributes { mtu: Some(1400), ..Attributes::default() });
        let older = Attributes { mtu: Some(1500), ..Attributes::default() };
        assert_eq!(older.or(now), older);
        assert_eq!(ASKED.requests(1).len(), 5);
        assert!(ASKED.requests(1)[4].what().contains("MTU"));
    }
}
