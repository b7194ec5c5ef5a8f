//! Who gets a port when others come in between. One call stands still behind each of its requests in
//! turn, while another runs from its beginning to its end.

use cbr0_tests::plugin::PluginError;
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result, require};
use serde_json::json;

use crate::alone::{Alone, Who};
use crate::fixture::{tcp, tcp_at};

/// What happened: the errors of the call that stood still, and of the one in between.
struct Ended {
    paused: Option<PluginError>,
    between: Option<PluginError>,
}

/// A call of each, the first of which stands still while the second runs.
struct Race<'a> {
    /// Whether somebody has had ports before.
    warm: bool,
    /// What has happened before.
    before: &'a [(&'a str, &'a Who)],
    paused: (&'a str, &'a Who),
    between: (&'a str, &'a Who),
}

impl Race<'_> {
    /// Runs it once for each request of the first, on a host of its own, and asserts what must be
    /// then. At least one of them was made before the other call.
    fn run(&self, then: impl Fn(&Alone, &Ended, &str) -> Result<()> + Sync) -> Outcome {
        if !require::nf_tables()? {
            return Ok(());
        }
        let Some(strace) = Strace::find()? else { return Ok(()) };
        let turns = self.turns(&strace)?;
        assert!(turns.len() > 1, "{turns:?}");
        strace::for_each(&turns, |turn| {
            let scene = self.scene()?;
            let case = format!("{:?} behind request {}", self.paused, turn.turn);
            let paused = strace.pause_behind(
                turn,
                scene.call(self.paused.0, self.paused.1)?,
                &scene.host,
            )?;
            assert!(paused.is_stopped(), "{case}: it has fewer requests");
            let between = scene.call(self.between.0, self.between.1)?.run(&scene.host)?.failure();
            let ended = Ended { paused: paused.resume()?.failure(), between };
            then(&scene, &ended, &case)
        })?;
        Ok(())
    }

    fn scene(&self) -> Result<Alone> {
        let scene = if self.warm { Alone::new()? } else { Alone::fresh()? };
        self.before.iter().try_for_each(|(verb, who)| scene.succeed(verb, who))?;
        Ok(scene)
    }

    /// The requests of the call when nobody comes in between, even if it is refused.
    fn turns(&self, strace: &Strace) -> Result<Vec<Syscall>> {
        let scene = self.scene()?;
        let call = scene.call(self.paused.0, self.paused.1)?;
        let (_, syscalls) = strace.syscalls(call, &scene.host)?;
        let is_request = |it: &Syscall| ["sendto", "sendmsg"].contains(&it.name.as_str());
        Ok(syscalls.into_iter().filter(is_request).collect())
    }
}

/// One of the two has the ports and the other was refused for it, and has nothing: the DEL of the first
/// leaves nothing.
fn one_has_it(
    scene: &Alone,
    ended: &Ended,
    (paused, between): (&Who, &Who),
    case: &str,
) -> Result<()> {
    let (winner, refused) = match (&ended.paused, &ended.between) {
        (None, Some(refused)) => (paused, refused),
        (Some(refused), None) => (between, refused),
        (one, other) => return Err(wrong(&format!("{case}: {one:?} and {other:?}"))),
    };
    assert_eq!(refused.code, 101, "{case}: {refused}");
    scene.succeed("CHECK", winner)?;
    scene.succeed("DEL", winner)
}

#[test]
fn of_two_adds_of_one_port_one_succeeds() -> Outcome {
    let (one, other) = (Who::first(), Who::rival());
    Race { warm: true, before: &[], paused: ("ADD", &one), between: ("ADD", &other) }.run(
        |scene, ended, case| {
            one_has_it(scene, ended, (&one, &other), case)?;
            scene.assert_nothing_left(case)
        },
    )
}

/// A port at all addresses and the same at one are keys of different maps.
#[test]
fn of_two_adds_that_overlap_one_succeeds() -> Outcome {
    let anywhere = Who::first().with(json!([tcp(80)]));
    let addressed = Who::rival().with(json!([tcp_at("10.100.0.2", 80)]));
    for (one, other) in [(&anywhere, &addressed), (&addressed, &anywhere)] {
        Race { warm: true, before: &[], paused: ("ADD", one), between: ("ADD", other) }.run(
            |scene, ended, case| {
                one_has_it(scene, ended, (one, other), case)?;
                scene.assert_nothing_left(case)
            },
        )?;
    }
    Ok(())
}

/// Each of them may be the one that makes the table.
#[test]
fn of_the_first_two_adds_on_a_host_one_succeeds() -> Outcome {
    let (one, other) = (Who::first(), Who::rival());
    Race { warm: false, before: &[], paused: ("ADD", &one), between: ("ADD", &other) }
        .run(|scene, ended, case| one_has_it(scene, ended, (&one, &other), case))
}

/// Both calls succeeded, and the port is this one's until its DEL.
fn it_has_the_port(scene: &Alone, ended: &Ended, who: &Who, case: &str) -> Result<()> {
    assert_eq!((&ended.paused, &ended.between), (&None, &None), "{case}");
    scene.succeed("CHECK", who)?;
    scene.succeed("DEL", who)?;
    scene.assert_nothing_left(case)
}

#[test]
fn who_waits_has_the_port_when_the_holder_leaves_during_its_add() -> Outcome {
    let (holder, waiter) = (Who::first(), Who::second_network());
    let before = [("ADD", &holder)];
    Race { warm: true, before: &before, paused: ("ADD", &waiter), between: ("DEL", &holder) }
        .run(|scene, ended, case| it_has_the_port(scene, ended, &waiter, case))
}

#[test]
fn who_comes_to_wait_while_the_holder_leaves_has_the_port() -> Outcome {
    let (holder, waiter) = (Who::first(), Who::second_network());
    let before = [("ADD", &holder)];
    Race { warm: true, before: &before, paused: ("DEL", &holder), between: ("ADD", &waiter) }
        .run(|scene, ended, case| it_has_the_port(scene, ended, &waiter, case))
}

#[test]
fn who_waits_may_leave_while_the_holder_does() -> Outcome {
    let (holder, waiter) = (Who::first(), Who::second_network());
    let before = [("ADD", &holder), ("ADD", &waiter)];
    for (paused, between) in [(&holder, &waiter), (&waiter, &holder)] {
        Race { warm: true, before: &before, paused: ("DEL", paused), between: ("DEL", between) }
            .run(|scene, ended, case| {
                assert_eq!((&ended.paused, &ended.between), (&None, &None), "{case}");
                scene.assert_nothing_left(case)
            })?;
    }
    Ok(())
}

/// Another container gets the port, or is refused and nothing is left of it.
#[test]
fn another_container_may_come_while_the_holder_leaves() -> Outcome {
    let (holder, rival) = (Who::first(), Who::rival());
    let before = [("ADD", &holder)];
    for (paused, between) in
        [(("DEL", &holder), ("ADD", &rival)), (("ADD", &rival), ("DEL", &holder))]
    {
        let race = Race { warm: true, before: &before, paused, between };
        race.run(|scene, ended, case| {
            let (removed, added) = match paused.0 {
                "DEL" => (&ended.paused, &ended.between),
                _ => (&ended.between, &ended.paused),
            };
            assert_eq!(removed, &None, "{case}");
            match added {
                None => {
                    scene.succeed("CHECK", &rival)?;
                    scene.succeed("DEL", &rival)?;
                }
                Some(refused) => assert_eq!(refused.code, 101, "{case}: {refused}"),
            }
            scene.assert_nothing_left(case)
        })?;
    }
    Ok(())
}

fn wrong(why: &str) -> LabError {
    LabError::Wrong(why.to_owned())
}
