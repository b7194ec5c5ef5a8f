//! The loan book: a record for each link that is lent, named by its borrower, in the folder `dataDir`.

use std::path::PathBuf;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::error::{CniError, Code};
use plugin_interface::record::{self, Record};
use plugin_interface::{Error, Result, Valid};

use crate::loan::Loan;

/// Where loans are; the folder does not outlive a boot, and neither does a loan.
const DATA_DIR: &str = "/run/cni/host-device";

/// All loans of the host.
#[derive(Debug)]
pub(crate) struct Book {
    folder: PathBuf,
}

impl Book {
    /// The book that the network configuration names.
    ///
    /// # Errors
    /// `dataDir` cannot be a folder.
    pub(crate) fn of(conf: &NetConf) -> Result<Book> {
        Ok(Book { folder: record::data_dir(conf, DATA_DIR)? })
    }

    /// Looks whether a loan could be written down.
    ///
    /// # Errors
    /// It could not.
    pub(crate) fn demand(&self) -> Result<()> {
        record::demand(&self.folder)
    }

    /// What the attachment has borrowed. A file that no plugin of ours wrote says nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn loan_to(&self, attachment: &Attachment) -> Result<Option<Loan>> {
        let loan = self.record(attachment).read()?.as_deref().and_then(parse);
        Ok(loan.filter(|loan| loan.borrower().as_ref() == Some(attachment)))
    }

    /// All loans.
    ///
    /// # Errors
    /// The folder, or a file, cannot be read.
    pub(crate) fn loans(&self) -> Result<Vec<Loan>> {
        let mut loans = Vec::new();
        for file in record::list(&self.folder)? {
            loans.extend(record::read(&file)?.as_deref().and_then(parse));
        }
        Ok(loans)
    }

    /// Writes a loan down.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, borrower: &Attachment, loan: &Loan) -> Result<()> {
        let text = serde_json::to_vec_pretty(loan)
            .map_err(|error| CniError::explained(Code::Io, &error.to_string()))?;
        self.record(borrower).write(&text)
    }

    /// Forgets what the attachment has borrowed, and what a write that was killed has left.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn forget(&self, borrower: &Attachment) -> Result<()> {
        let record = self.record(borrower);
        Error::all([record.remove(), record.remove_scratch()])
    }

    /// GC: removes what writes that were killed have left.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn collect(&self, valid: &Valid<'_>) -> Result<()> {
        record::collect_scratches(&self.folder, valid)
    }

    fn record(&self, borrower: &Attachment) -> Record {
        Record::new(&self.folder, &format!("{}.json", borrower.owner_key()), borrower)
    }
}

fn parse(text: &[u8]) -> Option<Loan> {
    serde_json::from_slice::<Loan>(text).ok().filter(|loan| loan.borrower().is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use kernel::link::Link;

    use super::*;

    #[test]
    fn a_loan_is_read_as_it_was_written_and_by_its_borrower_alone() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book { folder: folder.path().join("loans") };
        let pod = Attachment::new("net", "pod", "eth0").unwrap();
        assert_eq!((book.loan_to(&pod).unwrap(), book.loans().unwrap()), (None, vec![]));
        let loan = Loan::new(&pod, &Link { name: "dev0".into(), ..Link::default() });
        book.write(&pod, &loan).unwrap();
        assert_eq!(book.loan_to(&pod).unwrap(), Some(loan.clone()));
        assert_eq!(book.loans().unwrap(), [loan]);
        let other = Attachment::new("net", "pod", "eth1").unwrap();
        assert_eq!(book.loan_to(&other).unwrap(), None);
        fs::copy(book.record(&pod).path(), book.record(&other).path()).unwrap();
        assert_eq!(book.loan_to(&other).unwrap(), None, "not its own");
        book.forget(&other).unwrap();
        book.forget(&pod).unwrap();
        book.forget(&pod).unwrap();
        assert_eq!(fs::read_dir(&book.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_another_making_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book { folder: folder.path().into() };
        let pod = Attachment::new("net", "pod", "eth0").unwrap();
        for text in ["", "{\"name\": \"dev0\"}", "[]"] {
            fs::write(book.record(&pod).path(), text).unwrap();
            assert_eq!((book.loan_to(&pod).unwrap(), book.loans().unwrap()), (None, vec![]));
        }
    }
}
