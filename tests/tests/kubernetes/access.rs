//! Who is let in: somebody who may not list, tokens that change.

use std::fs;

use cbr0_tests::Outcome;
use serde_json::json;

use crate::fixture::{Lab, STRANGER, TOKENS};

const WELL: [&str; 2] = ["node1 own", "node2 ok"];

#[test]
fn who_may_not_list_is_told_what_to_do_and_keeps_the_routes() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let routes = lab.routes()?;
    drop(daemon);
    let _daemon = lab.start_as(1, STRANGER, &[])?;
    lab.wait_for_trouble("ClusterRole with the verbs list and watch")?;
    assert_eq!(lab.routes()?, routes);
    // Let in, it goes on by itself.
    lab.allow(&[json!({"kind": "User", "name": STRANGER})])?;
    lab.wait_for_rows(&WELL)?;
    Ok(())
}

#[test]
fn p23_a_token_that_was_replaced_is_read_again() -> Outcome {
    let Some(mut lab) = Lab::new(2)? else { return Ok(()) };
    let _daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let mut events = lab.listen()?;
    // The one that it has read counts no more.
    lab.server.stop();
    lab.server.set_tokens(&[TOKENS[1]])?;
    lab.server.run()?;
    lab.wait_for_trouble("does not let us in")?;
    fs::write(lab.token_file(1), TOKENS[1]).unwrap();
    lab.wait_for_rows(&WELL)?;
    assert_eq!(events.counts()?, (0, 0));
    Ok(())
}
