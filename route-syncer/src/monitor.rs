//! Hearing of changes in the kernel, so that a lost route is back in milliseconds.
//!
//! IPv4 routes that go with a link or an address make no event of their own; so links and
//! addresses are listened to as well. An event is only a reason to look: what counts is what the
//! kernel says when it is read next.

use std::io;
use std::net::IpAddr;

use futures_util::{FutureExt, Stream, StreamExt};
use ipnetwork::IpNetwork;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{MulticastGroup, new_multicast_connection};

/// The receive buffer asked for, in bytes. The default holds about 250 events.
const BUFFER: usize = 4 << 20;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link or an address came, went or changed.
    Link,
    /// A route came, went or changed.
    Route {
        /// Where it leads.
        destination: IpNetwork,
        /// Who made it (`RTPROT_*`).
        protocol: u8,
    },
    /// Events were lost: anything may have changed.
    Overrun,
}

type Messages = Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Unpin>;

/// The stream of events of this network namespace.
pub struct Monitor {
    messages: Messages,
}

impl Monitor {
    /// Starts to listen. What changes from now on is not missed.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        let (mut connection, _, messages) = new_multicast_connection(&GROUPS)?;
        // As much as the system lets us have (net.core.rmem_max); an overrun only costs a reading.
        let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(BUFFER as u32);
        tokio::spawn(connection);
        Ok(Self { messages: Box::new(messages) })
    }

    /// The next event; none if the kernel's socket failed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let (message, _) = self.messages.next().await?;
            if let Some(event) = event(&message.payload) {
                return Some(event);
            }
        }
    }

    /// The next event if it is here already.
    pub fn ready(&mut self) -> Option<Event> {
        self.next().now_or_never().flatten()
    }
}

fn event(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    match payload {
        NetlinkPayload::Overrun(_) => Some(Event::Overrun),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => destination(route).map(|destination| Event::Route {
            destination,
            protocol: route.header.protocol.into(),
        }),
        NetlinkPayload::InnerMessage(_) => Some(Event::Link),
        _ => None,
    }
}

fn destination(route: &RouteMessage) -> Option<IpNetwork> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNetwork::new(address, route.header.destination_prefix_length).ok()
}
