//! What a link was before it was tuned, in a file of the reference's name and format, so that either
//! plugin restores what the other one changed. One object more tells whose it is, which the name of
//! the file does not say for certain, and of which link.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni_conf::attachment::Attachment;
use kernel::NetNs;
use kernel::link::Link;
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::error::FileError;

type Result<T> = std::result::Result<T, FileError>;

/// The content of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backup {
    /// What the link was.
    pub(crate) link: Attributes,
    /// Whose it is; none in a file of the reference's.
    pub(crate) owner: Option<Owner>,
}

/// The attachment that a backup is of, and the link that its interface was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    network: String,
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
    /// The link's index.
    link: u32,
    /// The namespace that the index is of, as the kernel numbers namespaces.
    namespace: (u64, u64),
}

/// The format of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    transmit_queue: Option<u32>,
    #[serde(rename = "cbr0", skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
}

impl Owner {
    /// This attachment with this link.
    ///
    /// # Errors
    /// The namespace cannot be told from others.
    pub(crate) fn new(attachment: &Attachment, namespace: &NetNs, link: &Link) -> Result<Owner> {
        let path = namespace.path();
        let namespace = fs::metadata(&path).map_err(FileError::backup("look at", &path))?;
        Ok(Owner {
            network: attachment.network.clone(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            link: link.index,
            namespace: (namespace.dev(), namespace.ino()),
        })
    }

    /// The attachment.
    pub(crate) fn attachment(&self) -> Option<Attachment> {
        Attachment::new(&self.network, &self.container_id, &self.ifname).ok()
    }
}

/// Where the backup of an attachment is.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// The name under which it is written; GC finds in it whose it is, whatever its content.
    scratch: PathBuf,
}

impl Place {
    pub(crate) fn new(data_dir: &Path, attachment: &Attachment) -> Place {
        let name = format!("{}_{}.json", attachment.container_id, attachment.ifname);
        let scratch = data_dir.join(format!(".{}", attachment.owner_key()));
        Place { path: data_dir.join(name), scratch }
    }

    /// The backup, if there is one for the attachment.
    ///
    /// # Errors
    /// It cannot be read, or is another attachment's of the same name.
    pub(crate) fn read(&self, attachment: &Attachment) -> Result<Option<Backup>> {
        let Some(backup) = read(&self.path)? else { return Ok(None) };
        let Some(owner) = backup.owner.as_ref().and_then(Owner::attachment) else {
            return Ok(Some(backup));
        };
        if owner.container_id != attachment.container_id || owner.ifname != attachment.ifname {
            let (path, owner) = (self.path.clone(), owner.alias());
            return Err(FileError::Taken { path, owner });
        }
        Ok(Some(backup).filter(|_| owner == *attachment))
    }

    /// Puts a backup where it belongs, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be made, or the file not be written.
    pub(crate) fn write(&self, backup: &Backup) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(FileError::backup("make folder", folder))?;
        let text = serde_json::to_vec_pretty(&Document::from(backup)).map_err(io::Error::from);
        let text = text.map_err(FileError::backup("write", &self.path))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&self.scratch).and_then(|mut file| file.write_all(&text));
        written.map_err(FileError::backup("write", &self.scratch))?;
        fs::rename(&self.scratch, &self.path).map_err(FileError::backup("write", &self.path))
    }

    /// Removes the backup.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        remove(&self.path)
    }

    /// Removes what a write that was killed, or failed, has left.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove_scratch(&self) -> Result<()> {
        remove(&self.scratch)
    }
}

/// The backup in a file. One that cannot be understood (the reference's may be half written) says
/// nothing.
///
/// # Errors
/// It is there and cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Backup>> {
    match fs::read(path) {
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(FileError::backup("read", path)(error)),
        Ok(bytes) => {
            let document: Document = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok(Some(Backup::from(document)))
        }
    }
}

/// Removes a file; one that is gone already is no error.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(FileError::backup("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl From<&Backup> for Document {
    fn from(backup: &Backup) -> Document {
        Document {
            mac: backup.link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            promisc: backup.link.promiscuous,
            mtu: backup.link.mtu,
            allmulti: backup.link.all_multicast,
            transmit_queue: backup.link.transmit_queue,
            owner: backup.owner.clone(),
        }
    }
}

impl From<Document> for Backup {
    fn from(document: Document) -> Backup {
        let link = Attributes {
            mac: document.mac.parse().ok(),
            mtu: document.mtu.filter(|&mtu| mtu != 0),
            promiscuous: document.promisc,
            all_multicast: document.allmulti,
            transmit_queue: document.transmit_queue,
        };
        Backup { link, owner: document.owner }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kernel::MacAddress;

    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment::new(network, container_id, ifname).unwrap()
    }

    fn backup(attachment: &Attachment) -> Backup {
        let link = Attributes {
            mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
            mtu: Some(1500),
            promiscuous: Some(false),
            ..Attributes::default()
        };
        let namespace = NetNs::current().unwrap();
        let owner = Owner::new(attachment, &namespace, &Link { index: 7, ..Link::default() });
        Backup { link, owner: Some(owner.unwrap()) }
    }

    #[test]
    fn a_backup_reads_back_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let pod = attachment("net", "pod", "eth0");
        let place = Place::new(&data_dir, &pod);
        assert_eq!(place.read(&pod).unwrap(), None);
        place.remove().unwrap();
        for _ in 0..2 {
            place.write(&backup(&pod)).unwrap();
            assert_eq!(place.read(&pod).unwrap(), Some(backup(&pod)));
        }
        let names = || fs::read_dir(&data_dir).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["pod_eth0.json"]);
        place.remove().unwrap();
        assert_eq!(names().count(), 0);
    }

    #[test]
    fn the_format_is_that_of_the_reference() {
        let text = br#"{
 "mac": "02:00:00:00:00:01",
 "promisc": false,
 "mtu": 1500
}"#;
        let document: Document = serde_json::from_slice(text).unwrap();
        let read = Backup::from(document);
        let wanted = Backup { owner: None, ..backup(&attachment("net", "pod", "eth0")) };
        assert_eq!(read, wanted);
        let written = serde_json::to_value(Document::from(&wanted)).unwrap();
        assert_eq!(written, serde_json::from_slice::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn a_file_of_the_same_name_is_told_from_the_own() {
        let folder = tempfile::tempdir().unwrap();
        let pod = attachment("net", "a_b", "c");
        let place = Place::new(folder.path(), &pod);
        place.write(&backup(&pod)).unwrap();
        let twin = attachment("net", "a", "b_c");
        let error = Place::new(folder.path(), &twin).read(&twin).unwrap_err().to_string();
        assert!(error.contains("net/a_b/c"), "{error}");
        let elsewhere = attachment("other", "a_b", "c");
        assert_eq!(Place::new(folder.path(), &elsewhere).read(&elsewhere).unwrap(), None);
    }

    #[test]
    fn a_half_written_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod_eth0.json");
        fs::write(&path, "{\"mac\": \"0").unwrap();
        assert_eq!(read(&path).unwrap(), Some(Backup::default()));
    }
}
