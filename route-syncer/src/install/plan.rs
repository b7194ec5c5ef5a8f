//! What to do about each place, from what is there.

use super::error::InstallError;
use super::place::{Found, Place, Source};
use super::step::Step;
use crate::replace;

/// Ours goes in; what is not ours is kept aside first.
pub(super) fn install<'a>(
    place: &Place,
    source: &'a Source,
) -> Result<Vec<Step<'a>>, InstallError> {
    let write = Step::Write { file: place.file.clone(), source };
    let keep = Step::KeepAside { file: place.file.clone(), saved: place.saved_name() };
    let mut steps = clean_up(place);
    steps.extend(match (&place.found, place.saved) {
        (Found::Ours, _) if place.holds(source) => vec![leave(place, "it is the same")],
        (Found::Ours | Found::Nothing, _) => vec![write],
        (Found::Foreign(_), None) => vec![keep, write],
        // A run was interrupted between the two.
        (Found::Foreign(there), Some(saved)) if *there == saved => vec![write],
        (Found::Foreign(_), Some(_)) => {
            let file = place.file.clone();
            return Err(InstallError::TwoForeign { file, saved: place.saved_name() });
        }
        (Found::NotAFile, _) => return Err(InstallError::NotAFile { path: place.file.clone() }),
    });
    Ok(steps)
}

/// Ours goes; what was kept aside comes back, unless somebody has put something in its place.
pub(super) fn uninstall(place: &Place) -> Vec<Step<'static>> {
    let saved = place.saved_name();
    let mut steps = clean_up(place);
    steps.push(match (&place.found, place.saved) {
        (Found::Ours | Found::Nothing, Some(_)) => {
            Step::PutBack { saved, file: place.file.clone() }
        }
        (Found::Ours, None) => Step::Remove { file: place.file.clone() },
        (Found::Nothing, None) => leave(place, "it is not there"),
        // A second name of what an interrupted install was about to replace.
        (Found::Foreign(there), Some(saved_one)) if *there == saved_one => {
            Step::Remove { file: saved }
        }
        (Found::Foreign(_) | Found::NotAFile, Some(_)) => {
            leave(place, "it is not ours; what was kept aside stays there, too")
        }
        (Found::Foreign(_) | Found::NotAFile, None) => leave(place, "it is not ours"),
    });
    steps
}

/// A conflist goes if it is ours. Nothing was kept aside for it.
pub(super) fn remove_conflist(place: &Place) -> Vec<Step<'static>> {
    let mut steps = clean_up(place);
    steps.push(match place.found {
        Found::Ours => Step::Remove { file: place.file.clone() },
        Found::Nothing => leave(place, "it is not there"),
        Found::Foreign(_) | Found::NotAFile => leave(place, "it is not written by route-syncer"),
    });
    steps
}

fn clean_up<'a>(place: &Place) -> Vec<Step<'a>> {
    let half = Step::Remove { file: replace::temporary(&place.file) };
    if place.half { vec![half] } else { Vec::new() }
}

fn leave<'a>(place: &Place, why: &'static str) -> Step<'a> {
    Step::Leave { file: place.file.clone(), why }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::install::place::{Identity, MODE};

    const THEIRS: Identity = Identity(1, 10);
    const OTHERS: Identity = Identity(1, 11);

    fn place(found: Found, saved: Option<Identity>) -> Place {
        Place { file: "/bin-dir/bridge".into(), found, saved, half: false }
    }

    fn source() -> Source {
        Source { path: "/built/bridge".into(), content: b"bridge".to_vec() }
    }

    fn lines(steps: &[Step<'_>]) -> Vec<String> {
        steps.iter().map(ToString::to_string).collect()
    }

    fn installed(found: Found, saved: Option<Identity>) -> Result<Vec<String>, String> {
        let source = source();
        let steps = install(&place(found, saved), &source);
        steps.map(|steps| lines(&steps)).map_err(|error| error.to_string())
    }

    const WRITE: &str = "write /bin-dir/bridge, from /built/bridge";
    const KEEP: &str = "keep /bin-dir/bridge aside as /bin-dir/bridge.cbr0-saved";
    const PUT_BACK: &str = "put /bin-dir/bridge.cbr0-saved back as /bin-dir/bridge";

    #[test]
    fn only_what_is_foreign_is_kept_aside() {
        assert_eq!(installed(Found::Nothing, None).unwrap(), [WRITE]);
        assert_eq!(installed(Found::Ours, None).unwrap(), [WRITE]);
        assert_eq!(installed(Found::Ours, Some(THEIRS)).unwrap(), [WRITE]);
        assert_eq!(installed(Found::Foreign(THEIRS), None).unwrap(), [KEEP, WRITE]);
    }

    #[test]
    fn an_interrupted_install_goes_on_where_it_was() {
        assert_eq!(installed(Found::Foreign(THEIRS), Some(THEIRS)).unwrap(), [WRITE]);
        let half = Place { half: true, ..place(Found::Ours, None) };
        let clean_up = "remove /bin-dir/.bridge.cbr0-new";
        assert_eq!(lines(&install(&half, &source()).unwrap()), [clean_up, WRITE]);
        assert_eq!(lines(&uninstall(&half)), [clean_up, "remove /bin-dir/bridge"]);
    }

    #[test]
    fn what_was_kept_aside_is_never_overwritten() {
        let error = installed(Found::Foreign(OTHERS), Some(THEIRS)).unwrap_err();
        let names = error.contains("/bin-dir/bridge ") && error.contains("bridge.cbr0-saved");
        assert!(names && error.contains("remove the one"), "{error}");
        let error = installed(Found::NotAFile, None).unwrap_err();
        assert!(error.contains("/bin-dir/bridge") && error.contains("move it away"), "{error}");
    }

    #[test]
    fn what_is_the_same_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bridge");
        std::fs::write(&file, "bridge").unwrap();
        let left = |mode: u32| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let place = Place { file: file.clone(), ..place(Found::Ours, Some(THEIRS)) };
            lines(&install(&place, &source()).unwrap()).concat().contains("it is the same")
        };
        assert!(left(MODE));
        assert!(!left(0o600));
    }

    #[test]
    fn uninstall_removes_ours_and_puts_theirs_back() {
        let steps = |found, saved| lines(&uninstall(&place(found, saved))).concat();
        assert_eq!(steps(Found::Ours, None), "remove /bin-dir/bridge");
        assert_eq!(steps(Found::Ours, Some(THEIRS)), PUT_BACK);
        assert_eq!(steps(Found::Nothing, Some(THEIRS)), PUT_BACK);
        assert_eq!(
            steps(Found::Foreign(THEIRS), Some(THEIRS)),
            "remove /bin-dir/bridge.cbr0-saved",
            "renaming a file to another of its names would do nothing"
        );
        for (found, saved) in [
            (Found::Nothing, None),
            (Found::Foreign(OTHERS), None),
            (Found::Foreign(OTHERS), Some(THEIRS)),
            (Found::NotAFile, Some(THEIRS)),
        ] {
            assert!(steps(found, saved).starts_with("leave /bin-dir/bridge: "));
        }
    }

    #[test]
    fn a_conflist_of_others_stays() {
        let steps = |found| lines(&remove_conflist(&place(found, None))).concat();
        assert_eq!(steps(Found::Ours), "remove /bin-dir/bridge");
        assert!(steps(Found::Foreign(THEIRS)).contains("not written by route-syncer"));
        assert!(steps(Found::Nothing).contains("not there"));
    }

    #[test]
    fn only_a_plugin_of_this_version_is_a_source() {
        let ours = std::env::current_exe().unwrap();
        assert!(Source::read(ours).is_ok());
        let error = Source::read("/bin/sh".into()).unwrap_err().to_string();
        assert!(error.contains("/bin/sh: it is another program"), "{error}");
        let missing = Path::new("/nonexistent/bridge");
        let error = Source::read(missing.into()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/bridge") && error.contains("--from"), "{error}");
    }
}
