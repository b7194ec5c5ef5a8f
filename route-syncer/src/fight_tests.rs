//! How often a destination is repaired, whatever somebody does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn cidr(number: u8) -> IpNetwork {
    format!("10.0.{number}.0/24").parse().unwrap()
}

fn repair(fights: &mut Fights, now: Instant) {
    fights.repaired(cidr(2));
    fights.end(now);
}

/// Repairs, each after a route of `lives` milliseconds was lost. Returns when they were made.
fn repairs(fights: &mut Fights, begun: Instant, lives: &[u64]) -> Vec<Instant> {
    let mut now = begun;
    let one = |&life: &u64| {
        now += Duration::from_millis(life);
        fights.begin(now);
        if !fights.may_repair(cidr(2), now) {
            // As the daemon does: it looks again when it is due, and is not woken before.
            now = fights.due().unwrap();
            fights.begin(now);
            assert!(fights.may_repair(cidr(2), now), "what is due may be done");
        }
        repair(fights, now);
        assert_eq!(fights.due(), None, "what is repaired wakes nobody");
        now
    };
    lives.iter().map(one).collect()
}

#[test]
fn p28_five_repairs_are_made_at_once_and_then_the_waits_double_up_to_half_a_minute() {
    let mut fights = Fights::default();
    let made = repairs(&mut fights, Instant::now(), &[1; 20]);
    let waits: Vec<u128> = made.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(waits[..5], [1; 5]);
    assert_eq!(waits[5..9], [100, 200, 400, 800]);
    assert_eq!(waits[14..], [30_000; 5]);
}

#[test]
fn p28_an_alarm_names_the_route_and_the_other() {
    let (mut fights, now) = (Fights::default(), Instant::now());
    for fought in [0, 0, 0, 0, 0, 1, 1] {
        repair(&mut fights, now);
        assert_eq!(fights.destinations().count(), fought);
    }
    assert!(fights.destinations().eq([cidr(2)]));
    fights.met(cidr(2), 4);
    fights.met(cidr(3), 5);
    let words: Vec<String> = fights.words().collect();
    assert!(words.len() == 1 && words[0].contains("10.0.2.0/24"), "{words:?}");
    assert!(words[0].contains("protocol 4"), "{words:?}");
}

#[test]
fn p28_others_are_not_held_back_and_after_a_minute_of_peace_it_is_forgotten() {
    let (mut fights, now) = (Fights::default(), Instant::now());
    (0..7).for_each(|_| repair(&mut fights, now));
    assert!(!fights.may_repair(cidr(2), now) && fights.may_repair(cidr(3), now));
    fights.begin(now + Duration::from_secs(59));
    assert_eq!(fights.destinations().count(), 1);
    fights.begin(now + WINDOW);
    assert_eq!(fights.destinations().count(), 0);
    assert!(fights.may_repair(cidr(2), now + WINDOW));
}

#[test]
fn p28_many_that_go_at_once_are_no_fight() {
    let (mut fights, now) = (Fights::default(), Instant::now());
    for _ in 0..20 {
        (0..65).for_each(|number| fights.repaired(cidr(number)));
        fights.end(now);
        // Those of the same flush that were seen later.
        repair(&mut fights, now);
    }
    assert_eq!(fights.destinations().count(), 0);
    for _ in 0..6 {
        repair(&mut fights, now + CALM);
    }
    assert_eq!(fights.destinations().count(), 1);
}

proptest! {
    #[test]
    fn p28_no_one_can_have_a_destination_repaired_often(
        lives in proptest::collection::vec(0u64..40_000, 1..80),
        hasty in proptest::collection::vec(0u64..150, 0..40),
    ) {
        let lives: Vec<u64> = lives.into_iter().chain(hasty).collect();
        let made = repairs(&mut Fights::default(), Instant::now(), &lives);
        // Five at once, one that makes it a fight, and waits of 0.1 s that double.
        for (place, &first) in made.iter().enumerate() {
            let soon = |at: &&Instant| **at < first + WINDOW;
            prop_assert!(made[place..].iter().filter(soon).count() <= 6 + 10);
        }
    }

    #[test]
    fn p28_who_is_rarely_repaired_never_waits(
        lives in proptest::collection::vec(12_000u64..200_000, 1..50),
    ) {
        let begun = Instant::now();
        let made = repairs(&mut Fights::default(), begun, &lives);
        let total: u64 = lives.iter().sum();
        prop_assert_eq!(*made.last().unwrap() - begun, Duration::from_millis(total));
    }
}
