//! What the runtime says in the environment (CNI spec, section "Parameters").

use std::path::PathBuf;

/// What the runtime asks for (CNI_COMMAND).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a container to the network.
    Add,
    /// Detach it, as far as that is possible.
    Del,
    /// Say whether what ADD made is still as it was made.
    Check,
    /// Remove what no valid attachment owns.
    Gc,
    /// Say whether the next ADD would work.
    Status,
    /// List the spec versions spoken.
    Version,
}

impl Verb {
    const ALL: [Verb; 6] =
        [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status, Verb::Version];

    /// The verb as it stands in CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    /// The verb that CNI_COMMAND names; verbs are upper case.
    pub fn parse(command: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.as_str() == command)
    }
}

/// The CNI variables of one call. A variable that is not set is the empty string: runtimes set
/// those that have no meaning for a verb to `""`, so the two cannot be told apart anyway.
///
/// The fields are plain, so that a test builds the environment it wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// CNI_COMMAND; `None` when it is not set.
    pub command: Option<String>,
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_NETNS: a path.
    pub netns: String,
    /// CNI_IFNAME
    pub ifname: String,
    /// CNI_ARGS: see [`crate::cni_args`].
    pub args: String,
    /// CNI_PATH: folders of plugins, separated by `:`.
    pub path: String,
    /// CNI_NETNS_OVERRIDE: CNI_NETNS may be the network namespace the plugin itself runs in.
    pub netns_override: bool,
}

impl Env {
    /// Reads the variables of this process. What is not UTF-8 becomes U+FFFD, which no name and
    /// no path of a runtime contains, and so is refused where it matters.
    pub fn from_process() -> Env {
        Env::from_variables(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Env {
        let text = |name: &str| get(name).unwrap_or_default();
        let netns_override = text("CNI_NETNS_OVERRIDE");
        Env {
            command: get("CNI_COMMAND"),
            container_id: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: text("CNI_PATH"),
            netns_override: netns_override == "1" || netns_override.eq_ignore_ascii_case("true"),
        }
    }

    /// The folders of CNI_PATH. Empty parts (`a::b`) are left out: as paths they would mean the
    /// folder the runtime happens to stand in.
    pub fn plugin_path(&self) -> Vec<PathBuf> {
        self.path.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_upper_case() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.as_str()), Some(verb));
        }
        for command in ["add", "", "ADD ", "FOO"] {
            assert_eq!(Verb::parse(command), None);
        }
    }

    #[test]
    fn every_field_comes_from_its_variable() {
        let env = Env::from_variables(|name| match name {
            "CNI_NETNS_OVERRIDE" => Some("True".to_owned()),
            name => Some(format!("<{name}>")),
        });
        assert_eq!(env.command.as_deref(), Some("<CNI_COMMAND>"));
        assert_eq!(env.container_id, "<CNI_CONTAINERID>");
        assert_eq!(env.netns, "<CNI_NETNS>");
        assert_eq!(env.ifname, "<CNI_IFNAME>");
        assert_eq!(env.args, "<CNI_ARGS>");
        assert_eq!(env.path, "<CNI_PATH>");
        assert!(env.netns_override);
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(Env::from_variables(|_| None), Env::default());
        let no = Env::from_variables(|name| (name == "CNI_NETNS_OVERRIDE").then(|| "0".to_owned()));
        assert!(!no.netns_override);
    }

    #[test]
    fn empty_parts_of_the_path_are_left_out() {
        let path = |path: &str| Env { path: path.to_owned(), ..Env::default() }.plugin_path();
        assert_eq!(path("/a:/b"), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(path(":/a::"), [PathBuf::from("/a")]);
        assert!(path("").is_empty());
    }
}
