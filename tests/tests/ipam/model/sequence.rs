//! One sequence of operations on a network, each compared with the model.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use cbr0_tests::Result;
use cbr0_tests::error::Context;
use cbr0_tests::plugin::Answer;
use cbr0_tests::strace::{Strace, Syscall};
use serde_json::{Value, json};

use super::shape::Shape;
use super::state::State;
use crate::fixture::{FULL, Holder, Lab, Network, Request, ensure, given};

/// What a sequence works with, besides its own network.
pub(crate) struct Tools {
    pub(crate) lab: Lab,
    pub(crate) reference: PathBuf,
    pub(crate) strace: Strace,
    /// The system calls at which an ADD may be killed.
    pub(crate) of_add: Vec<Syscall>,
    /// And those of a DEL.
    pub(crate) of_del: Vec<Syscall>,
}

/// Who carries an operation out. Processes are dear, so most have none of their own.
#[derive(Debug)]
enum By {
    InProcess,
    Binary,
    Reference,
    /// The binary, killed at this system call if it makes it.
    Killed(Syscall),
}

/// A network, what it should be like, and what has been done to it.
pub(crate) struct Sequence<'a> {
    tools: &'a Tools,
    shape: &'a Shape,
    network: Network,
    rng: fastrand::Rng,
    state: State,
    /// A copy of the files beside the network's directory, as they once were.
    kept: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) log: Vec<String>,
}

impl<'a> Sequence<'a> {
    /// Everything follows from the seed, but where the files are and how time passes.
    pub(crate) fn new(tools: &'a Tools, shapes: &'a [Shape], seed: u64) -> Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shape = &shapes[rng.usize(..shapes.len())];
        // The clocks of filesystems differ: one in memory, and the one where temporary files are.
        let memory = PathBuf::from("/dev/shm");
        let folder = if rng.bool() && memory.is_dir() { memory } else { std::env::temp_dir() };
        let network = Network::below(&folder, &shape.ipam)?;
        let log = vec![format!("in {} with {}", folder.display(), shape.ipam)];
        Ok(Sequence { tools, shape, network, rng, state: State::default(), kept: vec![], log })
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        for _ in 0..self.rng.usize(6..=12) {
            self.step()?;
        }
        self.gc()?;
        self.fill()?;
        self.del_everybody()
    }

    fn step(&mut self) -> Result<()> {
        match self.rng.u32(..100) {
            0..42 => self.add(),
            42..62 => self.del(),
            62..69 => self.check(),
            69..75 => self.gc(),
            75..82 => self.killed_reference(),
            82..85 => self.old_version(),
            85..88 => self.changed("restart", |sequence| sequence.network.forget()),
            88..91 => self.changed("keep what lies beside", Self::keep),
            91..94 => self.changed("what was kept comes back", Self::restore),
            94..96 => self.changed("lose lock", |sequence| sequence.lose("lock")),
            96..98 => self.changed("spoil last_reserved_ip", Self::spoil_last),
            _ => self.wipe(),
        }
    }

    fn add(&mut self) -> Result<()> {
        let syscall = self.rng.choice(&self.tools.of_add).cloned();
        let by = self.by(syscall);
        let holder = self.holder();
        // The reference takes back everything of a holder when it refuses it a second time.
        if matches!(by, By::Reference) && !self.state.addresses_of(&holder).is_empty() {
            return Ok(());
        }
        let (request, wish) = self.wish(Request::add(&holder));
        let answer = self.ask(&by, &request)?;
        let before = self.state.clone();
        let refusals = before.refusals(self.shape, &holder, wish, |address| {
            let in_the_way = matches!(by, By::Reference) && before.empty.contains(address);
            before.held.contains_key(address) || in_the_way
        });
        match answer.failure() {
            _ if answer.code.is_none() => self.adopt_killed_add(&holder),
            None => {
                ensure(refusals.is_empty(), || format!("no error, but {refusals:?}"))?;
                self.adopt_added(&holder, wish, &answer)
            }
            Some(error) => {
                let told = refusals.iter().any(|words| error.msg.contains(words));
                ensure(told, || format!("{refusals:?} expected, not: {error}"))?;
                self.observe()
            }
        }
    }

    /// Takes over what an ADD says, which must be one free address of each set.
    fn adopt_added(
        &mut self,
        holder: &Holder,
        wish: Option<IpAddr>,
        answer: &Answer,
    ) -> Result<()> {
        let addresses = given(answer)?;
        ensure(addresses.len() == self.shape.pools.len(), || "not one of each set".to_owned())?;
        if let Some(wish) = wish {
            ensure(addresses.contains(&wish), || format!("{wish} was asked for"))?;
        }
        for (address, pool) in addresses.iter().zip(&self.shape.pools) {
            let place = pool.iter().find(|(one, _)| one == address);
            let Some((_, length)) = place else {
                return ensure(false, || format!("{address} is not to be given"));
            };
            let written = format!("\"{address}/{length}\"");
            ensure(answer.stdout.contains(&written), || format!("no {written}"))?;
            let had = self.state.held.insert(*address, holder.contents());
            ensure(had.is_none(), || format!("{address} was given, which {had:?} has"))?;
        }
        self.observe()
    }

    /// Takes over what a killed ADD may have reserved: at most one free address of each set.
    fn adopt_killed_add(&mut self, holder: &Holder) -> Result<()> {
        let found = State::of(&self.network)?;
        for pool in &self.shape.pools {
            let is_new = |address: &&IpAddr| {
                found.held.contains_key(*address) && !self.state.held.contains_key(*address)
            };
            let new: Vec<IpAddr> =
                pool.iter().map(|(address, _)| address).filter(is_new).copied().collect();
            ensure(new.len() < 2, || format!("{new:?} of one set"))?;
            self.state.held.extend(new.into_iter().map(|address| (address, holder.contents())));
        }
        self.observe()
    }

    fn del(&mut self) -> Result<()> {
        let syscall = self.rng.choice(&self.tools.of_del).cloned();
        let by = self.by(syscall);
        let holder = self.holder();
        let answer = self.ask(&by, &Request::del(&holder))?;
        let mut after = self.state.without(&holder);
        if matches!(by, By::Reference) {
            // It does so once for each set, and when the holder's own are gone it goes on with
            // those of its container alone.
            after = self.shape.pools[1..].iter().fold(after, |after, _| after.without(&holder));
        }
        if answer.code.is_none() {
            // A part of it may have been done.
            let found = State::of(&self.network)?;
            self.state.held.retain(|address, _| {
                after.held.contains_key(address) || found.held.contains_key(address)
            });
            return self.observe();
        }
        ensure(answer.failure().is_none(), || format!("DEL failed: {answer:?}"))?;
        self.state = after;
        self.observe()
    }

    fn check(&mut self) -> Result<()> {
        let holder = self.holder();
        let held = self.state.addresses_of(&holder);
        let mut request = Request::new("CHECK", &holder);
        if self.rng.bool() {
            let ips: Vec<Value> =
                held.iter().map(|address| json!({"address": format!("{address}/24")})).collect();
            request = request.with(json!({"prevResult": {"cniVersion": "1.1.0", "ips": ips}}));
        }
        let answer = self.ask(&By::InProcess, &request)?;
        ensure(answer.failure().is_none() != held.is_empty(), || format!("{answer:?}"))?;
        self.observe()
    }

    fn gc(&mut self) -> Result<()> {
        let mut valid = holders();
        valid.retain(|_| self.rng.bool());
        let by = if self.rng.u8(..) < 10 { By::Binary } else { By::InProcess };
        let answer = self.ask(&by, &Request::gc(&valid))?;
        ensure(answer.failure().is_none(), || format!("GC failed: {answer:?}"))?;
        self.state = self.state.only(&valid);
        self.observe()
    }

    /// What is left when the reference dies between creating a reservation and writing it.
    fn killed_reference(&mut self) -> Result<()> {
        let Some(address) = self.free() else { return Ok(()) };
        self.log.push(format!("the reference is killed at {address}"));
        self.network.write(&address.to_string(), "")?;
        self.state.empty.insert(address);
        self.observe()
    }

    /// A reservation as old versions wrote it.
    fn old_version(&mut self) -> Result<()> {
        let (Some(address), container) = (self.free(), self.holder().container) else {
            return Ok(());
        };
        self.log.push(format!("an old version gives {address} to {container}"));
        self.network.write(&address.to_string(), &container)?;
        self.state.held.insert(address, container);
        self.observe()
    }

    /// Something that changes nothing for anybody.
    fn changed(&mut self, what: &str, change: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        self.log.push(what.to_owned());
        change(self)?;
        self.observe()
    }

    fn keep(&mut self) -> Result<()> {
        let files = self.network.beside()?.into_iter().filter(|path| path.is_file());
        let read = |path: PathBuf| {
            let content = fs::read(&path).context(|| format!("read {}", path.display()))?;
            Ok((path, content))
        };
        self.kept = files.map(read).collect::<Result<_>>()?;
        Ok(())
    }

    fn restore(&mut self) -> Result<()> {
        for (path, content) in &self.kept {
            fs::write(path, content).context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn lose(&mut self, name: &str) -> Result<()> {
        let path = self.network.path(name);
        if !path.exists() {
            return Ok(());
        }
        fs::remove_file(&path).context(|| format!("remove {}", path.display()))
    }

    fn spoil_last(&mut self) -> Result<()> {
        let content = self.rng.choice(["", "10.1.2", "10.1.2.250", "::1\n"]).unwrap();
        self.network.write("last_reserved_ip.0", content)
    }

    /// The network's directory goes, as on a reboot when it lies in memory.
    fn wipe(&mut self) -> Result<()> {
        self.log.push("the directory goes".to_owned());
        let directory = self.network.directory();
        if directory.exists() {
            fs::remove_dir_all(&directory).context(|| format!("remove {}", directory.display()))?;
        }
        self.state = State::default();
        self.observe()
    }

    /// Nothing has leaked and nothing is lost: as many ADDs succeed as the model says, not one more.
    fn fill(&mut self) -> Result<()> {
        let is_free = |(address, _): &&(IpAddr, u8)| !self.state.held.contains_key(address);
        let free = self.shape.pools.iter().map(|pool| pool.iter().filter(is_free).count());
        let free = free.min().unwrap_or_default();
        for number in 0..=free {
            let holder = Holder::eth0(&format!("fresh{number}"));
            let answer = self.ask(&By::InProcess, &Request::add(&holder))?;
            if number < free {
                self.adopt_added(&holder, None, &answer)?;
            } else {
                let full = answer.failure().is_some_and(|error| error.msg.contains(FULL));
                ensure(full, || format!("{answer:?} when nothing is left"))?;
            }
        }
        self.observe()
    }

    fn del_everybody(&mut self) -> Result<()> {
        let holder = |content: &String| match content.split_once("\r\n") {
            Some((container, ifname)) => Holder::new(container, ifname),
            None => Holder::eth0(content),
        };
        // Those of a container alone go when there are no others of it: that takes a second turn.
        for _ in 0..2 {
            let everybody: Vec<Holder> = self.state.held.values().map(holder).collect();
            for holder in everybody {
                let answer = self.ask(&By::InProcess, &Request::del(&holder))?;
                ensure(answer.failure().is_none(), || format!("DEL failed: {answer:?}"))?;
                self.state = self.state.without(&holder);
            }
            self.observe()?;
        }
        let left = &self.state.held;
        ensure(left.is_empty(), || format!("{left:?} are left of nobody"))
    }

    /// The directory is as the model says; only what is nobody's may have gone by itself.
    fn observe(&mut self) -> Result<()> {
        let found = State::of(&self.network)?;
        ensure(found.held == self.state.held, || {
            format!("reserved are {:?}, not {:?}", found.held, self.state.held)
        })?;
        ensure(found.empty.is_subset(&self.state.empty), || {
            format!("without content are {:?}, not {:?}", found.empty, self.state.empty)
        })?;
        self.state.empty = found.empty;
        Ok(())
    }

    fn ask(&mut self, by: &By, request: &Request) -> Result<Answer> {
        self.log.push(format!("{by:?}: {request:?}"));
        let Tools { lab, reference, strace, .. } = self.tools;
        let answer = match by {
            By::InProcess => self.network.in_process(request),
            By::Binary => lab.run(&self.network.call(&lab.ours, request))?,
            By::Reference => lab.run(&self.network.call(reference, request))?,
            By::Killed(syscall) => {
                strace.kill_at(syscall, self.network.call(&lab.ours, request), &lab.host)?
            }
        };
        self.log.push(format!("  {answer:?}"));
        Ok(answer)
    }

    fn by(&mut self, syscall: Option<Syscall>) -> By {
        match (self.rng.u32(..1000), syscall) {
            (0..25, Some(syscall)) => By::Killed(syscall),
            (25..65, _) => By::Reference,
            (65..95, _) => By::Binary,
            _ => By::InProcess,
        }
    }

    /// Some ask for an address, in one of the three ways.
    fn wish(&mut self, request: Request) -> (Request, Option<IpAddr>) {
        if self.rng.u8(..) > 60 {
            return (request, None);
        }
        let given = self.shape.pools.iter().flatten().map(|(address, _)| *address);
        let all: Vec<IpAddr> = given.chain(self.shape.gateways.iter().copied()).collect();
        let wish = *self.rng.choice(&all).unwrap();
        let request = match self.rng.u8(..3) {
            0 => request.args(format!("IgnoreUnknown=1;IP={wish}")),
            1 => request.with(json!({"args": {"cni": {"ips": [wish]}}})),
            _ => request.with(json!({"runtimeConfig": {"ips": [format!("{wish}/24")]}})),
        };
        (request, Some(wish))
    }

    fn holder(&mut self) -> Holder {
        self.rng.choice(holders()).unwrap()
    }

    /// An address without a reservation, if there is one.
    fn free(&mut self) -> Option<IpAddr> {
        let is_free = |address: &IpAddr| {
            !self.state.held.contains_key(address) && !self.state.empty.contains(address)
        };
        let all = self.shape.pools.iter().flatten().map(|(address, _)| *address);
        let free: Vec<IpAddr> = all.filter(is_free).collect();
        self.rng.choice(free)
    }
}

/// Few, so that the same come again.
fn holders() -> Vec<Holder> {
    let of = |container| [Holder::new(container, "eth0"), Holder::new(container, "net1")];
    ["a", "b", "c", "d"].into_iter().flat_map(of).collect()
}
