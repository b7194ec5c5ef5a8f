//! Changes of the tunnel in the words of `ip-link(8)`, `ip-address(8)`, `ip-neighbour(8)` and
//! `bridge(8)`: what people would type to make them.

use super::{PORT, VNI, device, peers};
use crate::claims::Judged;
use crate::desired::Desired;
use crate::observed::Observed;
use crate::off_link::OffLink;

/// The commands that make the devices as they should be. What is observed is then what would be.
pub fn of_devices(judged: &[Judged], observed: &mut Observed, off_link: OffLink) -> Vec<String> {
    let mut commands = Vec::new();
    if off_link != OffLink::Vxlan {
        return commands;
    }
    for _ in 0..device::LOOKS {
        let (wanted, _) = device::wanted(judged, observed);
        let (changes, _) = device::changes(&wanted, &observed.tunnel);
        commands.extend(changes.iter().map(of_device));
        changes.iter().for_each(|change| change.foresee(observed));
    }
    commands
}

/// The commands for what the routes need.
pub fn before_routes(desired: &Desired, observed: &Observed) -> Vec<String> {
    let changes = peers::missing(&desired.peers, &observed.tunnel);
    changes.iter().map(|change| of_peer(change, observed)).collect()
}

/// The commands for what no route needs any more.
pub fn behind_routes(desired: &Desired, observed: &Observed, off_link: OffLink) -> Vec<String> {
    if off_link != OffLink::Vxlan {
        return device::removal(&observed.tunnel).iter().map(of_device).collect();
    }
    let changes = peers::superfluous(&desired.peers, &observed.tunnel);
    changes.iter().map(|change| of_peer(change, observed)).collect()
}

/// The command that changes a device.
pub fn of_device(change: &device::Change) -> String {
    match change {
        device::Change::Create(device) => {
            let device::Device { family, local, mac, mtu, .. } = device;
            format!(
                "ip link add {} address {mac} mtu {mtu} up type vxlan id {VNI} local {local} \
                 dstport {PORT} nolearning",
                family.device()
            )
        }
        device::Change::Remove(family, _) => format!("ip link del {}", family.device()),
        device::Change::Raise(family, _) => format!("ip link set {} up", family.device()),
        device::Change::Resize(family, _, mtu) => {
            format!("ip link set {} mtu {mtu}", family.device())
        }
        device::Change::AddAddress(family, _, new) => {
            let nodad = if new.is_ipv6() { " nodad" } else { "" };
            format!("ip addr add {new} dev {}{nodad}", family.device())
        }
        device::Change::DeleteAddress(family, _, old) => {
            format!("ip addr del {old} dev {}", family.device())
        }
    }
}

/// The command that changes what is known of another end.
pub fn of_peer(change: &peers::Change, observed: &Observed) -> String {
    let name = |link: &u32| observed.link_name(*link);
    match change {
        peers::Change::SetNeighbour(link, address, mac) => {
            format!("ip neigh replace {address} lladdr {mac} dev {} nud permanent", name(link))
        }
        peers::Change::SetEntry(link, mac, remote) => {
            format!("bridge fdb replace {mac} dev {} dst {remote} self permanent", name(link))
        }
        peers::Change::DeleteNeighbour(link, address) => {
            format!("ip neigh del {address} dev {}", name(link))
        }
        peers::Change::DeleteEntry(link, mac, remote) => {
            format!("bridge fdb del {mac} dev {} dst {remote} self", name(link))
        }
    }
}
