//! CHECK: whether the container still has the device, as it got it.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::check::{self, Expected, demand};
use plugin_interface::{Container, Result};

use crate::book::Book;
use crate::conf::Conf;
use crate::loan::Loan;

/// Compares the kernel with the result of ADD.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    Conf::parse(&call.conf)?;
    let expected = Expected::of(call, netns)?;
    // A program in the container drives it: there is no link.
    if expected.interface.mac.is_empty() {
        return Ok(());
    }
    let mut container = Container::open(call, netns)?;
    let link = check::container_end(&mut container, netns, &expected, None)?;
    let is_lent = match Book::of(&call.conf)?.loan_to(&call.attachment)? {
        Some(loan) => link.alias == loan.name,
        None => Loan::of_reference(&call.attachment, &link).is_some(),
    };
    demand(is_lent, || {
        format!("{:?} is not lent to this container: its alias is {:?}", link.name, link.alias)
    })
}
