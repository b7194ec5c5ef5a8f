//! Runs a sequence of steps against the daemon, and compares after each.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use route_syncer::source::file::FileError;
use route_syncer::source::{HeldNode, List, Node as Told, SourceError, Update};

use crate::reference::{Family, Model, Node, To, V4, V6, family, words};
use crate::step::{Edit, Step};
use crate::world::World;

/// How long something that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The same, for cases that are expected to fail.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(2);

struct Run {
    world: World,
    model: Model,
    /// The last list that the source told.
    last: Vec<Node>,
    patience: Duration,
}

pub(crate) fn run(steps: &[Step], patience: Duration) -> Result<(), String> {
    let mut run = Run { world: World::new(), model: Model::new(), last: Vec::new(), patience };
    run.model.start();
    run.world.start();
    for (place, step) in steps.iter().enumerate() {
        run.step(step)
            .and_then(|()| run.compare())
            .map_err(|problem| format!("step {place}: {problem}"))?;
    }
    run.world.stop();
    Ok(())
}

impl Run {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::List { nodes, held, proven } => self.list(nodes.clone(), held, *proven)?,
            Step::Shrink { lost } => {
                let mut nodes = self.last.clone();
                let mut place = 0;
                nodes.retain(|_| {
                    place += 1;
                    !lost.contains(&(place - 1))
                });
                self.list(nodes, &[], false)?;
            }
            Step::Broken => self.tell(broken())?,
            Step::Restart { meanwhile, remembered } => {
                self.world.stop();
                meanwhile.iter().for_each(|edit| self.edit(edit));
                self.model.start();
                self.world.start();
                if let Some((nodes, held)) = remembered {
                    self.model.remember(nodes, held);
                    self.tell(Update::Remembered(list(nodes, held, false)))?;
                }
                // A daemon does nothing before its source has told something.
                self.tell(broken())?;
            }
            Step::Edit(edit) => self.edit(edit),
        }
        self.model.settle();
        Ok(())
    }

    fn list(&mut self, nodes: Vec<Node>, held: &[Node], proven: bool) -> Result<(), String> {
        self.model.list(&nodes, held, proven);
        self.tell(Update::Nodes(list(&nodes, held, proven)))?;
        self.last = nodes;
        Ok(())
    }

    fn tell(&self, update: Update) -> Result<(), String> {
        self.world.teller().tell(update, self.patience)
    }

    /// What others do, and what the kernel makes of it.
    fn edit(&mut self, edit: &Edit) {
        let Self { world, model, .. } = self;
        match *edit {
            Edit::Flush => {
                world.delete_ours(|_| true);
                model.ours.clear();
            }
            Edit::Delete(to) => {
                world.delete_ours(|route| route.destination == to);
                model.ours.remove(&to);
            }
            Edit::Foreign(to) if can_route(model, to) => {
                world.put_foreign(to, stranger(to, 77));
                model.foreign.insert(to, stranger(to, 77));
                model.ours.remove(&to);
            }
            Edit::ForeignGone(to) if model.foreign.contains_key(&to) => {
                world.delete_foreign(to, stranger(to, 77));
                model.foreign.remove(&to);
            }
            Edit::Forged(to) if can_route(model, to) && !model.foreign.contains_key(&to) => {
                world.put_forged(to, stranger(to, 88));
                model.ours.insert(to, To::Via(stranger(to, 88)));
            }
            Edit::LinkDown if model.up => {
                world.set_link_up(false);
                model.up = false;
                // IPv6 addresses go with a link, routes by it in both families.
                model.has_v6 = false;
                forget_routes(model, &[V4, V6]);
            }
            Edit::LinkUp if !model.up => {
                world.set_link_up(true);
                model.up = true;
            }
            // To a link that is down an IPv6 address comes back when it is up.
            Edit::AddressBack(family) if !model.has(family) && model.up => {
                world.add_address(family);
                set_address(model, family, true);
            }
            Edit::AddressGone(family) if model.has(family) => {
                world.delete_address(family);
                set_address(model, family, false);
                if family == V4 {
                    forget_routes(model, &[V4]);
                }
            }
            Edit::LinkAnew => {
                world.renew_link();
                (model.up, model.has_v4, model.has_v6) = (true, true, true);
                forget_routes(model, &[V4, V6]);
            }
            _ => {}
        }
    }

    /// Waits until the kernel is as the model says, and sees whether it stays so when the daemon
    /// looks once more.
    fn compare(&mut self) -> Result<(), String> {
        let end = Instant::now() + self.patience;
        while let Err(problem) = self.is_same() {
            if !self.world.wait(end) {
                return Err(problem);
            }
        }
        self.tell(broken())?;
        self.is_same().map_err(|problem| format!("it did not stay so: {problem}"))
    }

    fn is_same(&mut self) -> Result<(), String> {
        let ours = self.world.ours()?;
        if ours != self.model.ours {
            let (ours, model) = (words(&ours), words(&self.model.ours));
            return Err(format!("ours are\n  {ours}\nbut should be\n  {model}"));
        }
        let foreign = self.world.foreign();
        let expected: Vec<_> = self.model.foreign.clone().into_iter().collect();
        if foreign != expected {
            return Err(format!("foreign are {foreign:?}, but should be {expected:?}"));
        }
        Ok(())
    }
}

fn forget_routes(model: &mut Model, families: &[Family]) {
    let is_gone = |to: &IpNetwork| families.contains(&family(to.ip()));
    model.ours.retain(|to, way| *way == To::Nowhere || !is_gone(to));
    model.foreign.retain(|to, _| !is_gone(to));
}

fn set_address(model: &mut Model, family: Family, is_there: bool) {
    match family {
        V4 => model.has_v4 = is_there,
        V6 => model.has_v6 = is_there,
    }
}

fn can_route(model: &Model, to: IpNetwork) -> bool {
    model.up && model.has(family(to.ip()))
}

/// A neighbour that is no node.
fn stranger(to: IpNetwork, number: u8) -> IpAddr {
    let family_of = family(to.ip());
    let mut addresses = crate::step::sane_addresses(number).into_iter();
    addresses.find(|address| family(*address) == family_of).unwrap()
}

fn told(node: &Node) -> Told {
    Told {
        name: format!("node{}", node.number),
        addresses: node.addresses.clone(),
        vteps: None,
        pod_cidrs: node.pod_cidrs.clone(),
    }
}

fn list(nodes: &[Node], held: &[Node], proven: bool) -> List {
    let since = "2026-01-01T00:00:00Z";
    List {
        nodes: nodes.iter().map(told).collect(),
        held: held.iter().map(|node| HeldNode { node: told(node), since: since.into() }).collect(),
        absence_is_proven: proven,
        ..List::default()
    }
}

/// What changes nothing, but wakes the daemon.
fn broken() -> Update {
    let source = io::Error::other("broken for a test");
    Update::Broken(SourceError::File(FileError::Read { path: "/nowhere".into(), source }))
}
