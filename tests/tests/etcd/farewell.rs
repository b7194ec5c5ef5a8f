//! Nodes that go for good.

use cbr0_tests::Outcome;

use crate::fixture::{Lab, states, tells};

#[test]
fn a_node_that_leaves_is_gone_at_once_and_can_come_back() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _first = lab.start(1)?;
    let second = lab.start(2)?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    let said = lab.say(2, &["leave"])?;
    assert!(said.contains("is free") && said.contains("the daemon goes on"), "{said}");
    lab.wait_for_rows(1, &["node1 own"])?;
    assert_eq!(lab.routes(1)?, [""; 0]);
    // Its own daemon does not take it again, and keeps what its Pods need.
    lab.wait(2, "left", |status| tells(status, "has left the cluster"))?;
    assert_eq!(lab.routes(2)?.len(), 1);
    second.kill();
    let said = lab.say(2, &["leave"])?;
    assert!(said.contains("no lease of this node is in etcd"), "{said}");
    let _second = lab.start(2)?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    Ok(())
}

#[test]
fn a_dead_node_is_forgotten_when_somebody_says_so() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let _daemons = [lab.start(1)?, lab.start(2)?];
    let third = lab.start_mortal(3)?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok", "node3 ok"])?;
    third.kill();
    lab.wait_for_rows(1, &["node1 own", "node2 ok", "node3 held"])?;
    let said = lab.say(1, &["forget", "node9"])?;
    assert!(said.contains("held are: node3"), "{said}");
    let said = lab.say(1, &["forget", "node3"])?;
    assert!(said.contains("all nodes remove their routes"), "{said}");
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    lab.wait_for_rows(2, &["node1 ok", "node2 own"])?;
    Ok(())
}

#[test]
fn a_living_node_that_is_forgotten_takes_its_subnet_again() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _daemons = [lab.start(1)?, lab.start(2)?];
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    let routes = lab.routes(1)?;
    let said = lab.say(1, &["forget", "node2"])?;
    assert!(said.contains("takes it again by itself"), "{said}");
    lab.wait(2, "taken again", |_| lab.log(2).matches("took the subnet").count() >= 2)?;
    // Rows alone could still be those from before: that it is free, node 1 may hear after this.
    lab.wait(1, "route back", |status| {
        states(status) == ["node1 own", "node2 ok"] && lab.routes(1).is_ok_and(|now| now == routes)
    })?;
    Ok(())
}
