//! Whether etcd still tells the history that was read before. A backup that was restored does not.

use super::contents::Contents;
use super::state::State;

/// Why this is another history than the one that is remembered; none if it may well be the same.
pub(super) fn doubt(state: &State, contents: &Contents) -> Option<String> {
    let (cluster, revision) = state.history?;
    let (new_cluster, new) = (contents.cluster, contents.revision);
    if new_cluster != cluster {
        return Some(format!(
            "etcd is another cluster than before ({new_cluster:x}, was {cluster:x})"
        ));
    }
    if new < revision {
        return Some(format!(
            "etcd went back from revision {revision} to {new}, as after a restored backup"
        ));
    }
    // It may have gone back and on, further than it was. But in one history a key is never
    // followed by an older one of the same name.
    state.picture.members.iter().find_map(|(name, member)| {
        let found = contents.leases.get(name)?.revision;
        (member.held_since.is_none() && found < member.floor).then(|| {
            let known = member.floor;
            format!(
                "etcd has the lease {name} as of revision {found}, but it had it of {known}, as \
                 after a restored backup"
            )
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::backend::Backend;
    use super::super::contents::Stored;
    use super::super::picture::{Member, Picture};
    use super::super::value::Identity;
    use super::*;

    const NAME: &str = "10.0.2.0-24";

    /// A lease of revision 7 is known, at revision 9.
    fn known() -> State {
        let v4 = Some([10, 100, 0, 2].into());
        let identity = Identity {
            name: "node2".into(),
            machine: None,
            v4,
            v6: None,
            backend: Backend::HostGw,
        };
        let subnet = NAME.parse().unwrap();
        let member = Member { identity, subnet, floor: 7, held_since: None };
        let mut picture = Picture::default();
        picture.members.insert(NAME.into(), member);
        State { history: Some((1, 9)), picture, ..State::default() }
    }

    fn contents(cluster: u64, revision: i64, lease: i64) -> Contents {
        let mut contents = Contents { cluster, revision, ..Contents::default() };
        let stored = Stored { value: Vec::new(), revision: lease, lease: 1 };
        contents.leases.insert(NAME.into(), stored);
        contents
    }

    #[test]
    fn a_history_that_goes_on_is_believed() {
        assert_eq!(doubt(&State::default(), &contents(5, 3, 2)), None, "never read");
        for (revision, lease) in [(9, 7), (20, 7), (20, 15)] {
            assert_eq!(doubt(&known(), &contents(1, revision, lease)), None);
        }
        let empty = Contents { leases: Default::default(), ..contents(1, 20, 0) };
        assert_eq!(doubt(&known(), &empty), None, "what is gone says nothing");
    }

    #[test]
    fn another_cluster_or_a_way_back_is_not() {
        let says = |contents| doubt(&known(), &contents).unwrap();
        assert!(says(contents(2, 20, 7)).contains("another cluster"));
        assert!(says(contents(1, 8, 7)).contains("back from revision 9 to 8"));
        // It went back to 4, and on from there.
        assert!(says(contents(1, 20, 5)).contains("of revision 5, but it had it of 7"));
    }
}
