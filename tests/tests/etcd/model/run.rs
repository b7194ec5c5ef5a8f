//! Does step after step to the world and to the model, and compares them after each.

use std::thread::sleep;

use cbr0_tests::{LabError, Result};

use super::reference::{Model, Table};
use super::step::{Edit, Step, Write};
use super::world::{OUTAGE, World};

pub(crate) struct Run {
    world: World,
    model: Model,
}

impl Run {
    /// A node that has joined. `None` where there can be none.
    pub(crate) fn new() -> Result<Option<Self>> {
        let Some(mut world) = World::new()? else { return Ok(None) };
        world.start()?;
        Ok(Some(Self { world, model: Model::new() }))
    }

    /// In the end etcd can be reached, whatever happened.
    pub(crate) fn all(&mut self, steps: &[Step]) -> Result<()> {
        let last = [Step::EtcdStarts, Step::LinkUp];
        for (place, step) in steps.iter().chain(&last).enumerate() {
            self.step(step).and_then(|()| self.compare()).map_err(|problem| {
                let log = self.world.log();
                LabError::Wrong(format!("step {place}, {step:?}: {problem}\nlog:\n{log}"))
            })?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Write(write) => self.write(*write)?,
            Step::Edit(edit) => self.edit(*edit)?,
            Step::Restart { writes, edits } => self.restart(writes, edits)?,
            Step::EtcdStops if self.model.etcd_up => {
                self.world.lab.etcd.stop();
                self.model.etcd_up = false;
                self.cut_off()?;
            }
            Step::EtcdStarts if !self.model.etcd_up => {
                self.world.lab.etcd.run()?;
                self.model.etcd_up = true;
            }
            Step::LinkDown if self.model.link_up => {
                self.world.take_link_down()?;
                self.model.lose_link();
                self.cut_off()?;
            }
            Step::LinkUp if !self.model.link_up => self.link_up()?,
            Step::LinkFlap if self.model.link_up => {
                self.world.take_link_down()?;
                self.model.lose_link();
                self.link_up()?;
            }
            _ => {}
        }
        self.model.settle();
        Ok(())
    }

    fn write(&mut self, write: Write) -> Result<()> {
        if self.model.etcd_up {
            self.world.write(write, &self.model)?;
            self.model.write(write);
        }
        Ok(())
    }

    fn edit(&mut self, edit: Edit) -> Result<()> {
        if self.model.allows(edit) {
            self.world.edit(edit)?;
            self.model.edit(edit);
        }
        Ok(())
    }

    fn restart(&mut self, writes: &[Write], edits: &[Edit]) -> Result<()> {
        self.world.kill();
        writes.iter().try_for_each(|write| self.write(*write))?;
        edits.iter().try_for_each(|edit| self.edit(*edit))?;
        self.world.start()?;
        self.model.restart();
        if self.model.reaches_etcd() { Ok(()) } else { self.world.wait_until_away() }
    }

    /// The outage is not over before the daemon has given its connection up: so what is written
    /// meanwhile is read at once, and not heard of one by one.
    fn cut_off(&self) -> Result<()> {
        sleep(OUTAGE);
        self.world.wait_until_away()
    }

    fn link_up(&mut self) -> Result<()> {
        self.world.bring_link_up()?;
        self.model.link_up = true;
        Ok(())
    }

    /// Waits until the kernel is as the model says, and sees whether it stays so when the daemon has
    /// heard of all there is.
    fn compare(&mut self) -> Result<()> {
        let until = World::patience();
        while let Some(difference) = self.difference()? {
            if !self.world.wait_for_routes(until)? {
                return Err(LabError::Wrong(difference));
            }
        }
        if !self.model.reaches_etcd() {
            return Ok(());
        }
        self.world.wait_until_heard()?;
        let left = |difference| Err(LabError::Wrong(format!("it did not stay so: {difference}")));
        self.difference()?.map_or(Ok(()), left)
    }

    fn difference(&mut self) -> Result<Option<String>> {
        let (ours, foreign) = self.world.routes()?;
        let same = ours == self.model.ours && foreign == self.model.foreign;
        Ok((!same).then(|| {
            let Model { ours: our_model, foreign: foreign_model, .. } = &self.model;
            let tables = [("ours", &ours, our_model), ("foreign", &foreign, foreign_model)];
            let words = tables.map(|(what, found, expected)| {
                format!("{what}:\n  {}\nshould be:\n  {}", words(found), words(expected))
            });
            words.join("\n")
        }))
    }
}

fn words(table: &Table) -> String {
    let rows: Vec<String> = table.iter().map(|(to, way)| format!("{to} {way:?}")).collect();
    rows.join("\n  ")
}
