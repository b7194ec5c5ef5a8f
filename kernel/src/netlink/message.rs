//! Writing a request, and what comes back.

use super::Attributes;

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// An attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// A request under construction: header, the family's fixed struct, attributes.
///
/// The socket fills in the sequence number and decides about the acknowledgement.
#[derive(Clone, Debug)]
pub struct Message {
    what: String,
    bytes: Vec<u8>,
}

impl Message {
    /// A request of type `kind` with `NLM_F_*` flags beyond `NLM_F_REQUEST`, and the fixed struct
    /// that its family puts before the attributes. `what` says in words what is asked for, for
    /// error messages.
    pub fn new(what: impl Into<String>, kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let flags = flags | nix::libc::NLM_F_REQUEST as u16;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]); // the length, known at the end
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence number and port, the socket's
        bytes.extend_from_slice(family_header);
        let mut message = Message { what: what.into(), bytes };
        message.pad();
        message
    }

    /// The request in words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Appends an attribute.
    #[must_use]
    pub fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Appends an attribute if there is a value for it.
    #[must_use]
    pub fn put_some(self, kind: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.put(kind, value),
            None => self,
        }
    }

    /// Appends text with the NUL that the kernel expects behind it.
    #[must_use]
    pub fn put_text(mut self, kind: u16, value: &str) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Appends a number in the machine's byte order (rtnetlink).
    #[must_use]
    pub fn put_u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order (nf_tables).
    #[must_use]
    pub fn put_u32_be(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` appends.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | NESTED);
        self = fill(self);
        self.close(start);
        self
    }

    /// Appends bytes as they are: the fixed struct inside a nested message (`VETH_INFO_PEER`).
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// What has been appended, behind the header.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// The bytes as another implementation would read them.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.finish(0, 0, &mut bytes);
        bytes
    }

    /// The finished bytes under this sequence number, with more flags.
    pub(super) fn finish(&self, sequence: u32, flags: u16, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&self.bytes);
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        into[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        let own = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        into[start + 6..start + 8].copy_from_slice(&(own | flags).to_ne_bytes());
        into[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    /// Writes the length of the attribute begun at `start`. A value of over 64 KiB cannot be said:
    /// its length wraps and the kernel refuses the message.
    fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message of an answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message type, such as `RTM_NEWLINK`.
    pub kind: u16,
    /// What follows the netlink header: the family's fixed struct, then attributes.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes behind a fixed struct of `header` bytes.
    pub fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes::new(self.payload.get(header..).unwrap_or_default())
    }

    /// A number in the machine's byte order at this place of the fixed struct.
    pub fn u32_at(&self, offset: usize) -> u32 {
        let bytes = self.payload.get(offset..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// A byte of the fixed struct.
    pub fn u8_at(&self, offset: usize) -> u8 {
        self.payload.get(offset).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_carry_their_length_and_padding() {
        let message =
            Message::new("test", 16, 0, &[1, 2]).nest(18, |m| m.put_text(1, "veth").put(2, &[9]));
        let mut bytes = Vec::new();
        message.finish(7, 4, &mut bytes);
        let expected = [
            &44u32.to_ne_bytes()[..],
            &16u16.to_ne_bytes(),
            &5u16.to_ne_bytes(),
            &7u32.to_ne_bytes(),
            &[0; 4],
            &[1, 2, 0, 0],
            &24u16.to_ne_bytes(),
            &(18u16 | NESTED).to_ne_bytes(),
            &9u16.to_ne_bytes(),
            &1u16.to_ne_bytes(),
            b"veth\0\0\0\0",
            &5u16.to_ne_bytes(),
            &2u16.to_ne_bytes(),
            &[9, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }
}
