//! Reading attributes: type, length, value, padded to four bytes (`netlink(7)`).

/// The bits of an attribute's type that name it; the two above are flags (nested, byte order).
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// One attribute of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// The attribute's type without its flag bits.
    pub kind: u16,
    /// The attribute's value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes nested in this one.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    /// The value as a number of one byte.
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as a number of two bytes in the machine's byte order.
    pub fn u16(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.value.first_chunk()?))
    }

    /// The value as a number in the machine's byte order, as rtnetlink writes them.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.value.first_chunk()?))
    }

    /// The value as a number in network byte order, as nf_tables writes them.
    pub fn u32_be(&self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.value.first_chunk()?))
    }

    /// As [`Attribute::u32_be`], of eight bytes.
    pub fn u64_be(&self) -> Option<u64> {
        Some(u64::from_be_bytes(*self.value.first_chunk()?))
    }

    /// The value as text up to its first NUL; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }
}

/// Iterates over the attributes in a run of bytes; ends at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes { rest: bytes }
    }

    /// The first attribute of this type.
    pub fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes(*kind) & TYPE_MASK, value })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_padded_and_nested_attributes() {
        let bytes = [
            5, 0, 1, 0, b'x', 0, 0, 0, // type 1, "x", padded
            12, 0, 2, 0x80, 8, 0, 3, 0, 7, 0, 0, 0, // type 2 nested: type 3 = 7
        ];
        let all = Attributes::new(&bytes);
        assert_eq!(all.get(1).unwrap().text(), "x");
        let inner = all.get(2).unwrap().nested().get(3).unwrap();
        assert_eq!(inner.u32(), Some(u32::from_ne_bytes([7, 0, 0, 0])));
    }

    #[test]
    fn ends_where_a_length_lies() {
        for bytes in [&[9u8, 0, 1, 0, 1][..], &[3, 0, 1, 0], &[0, 0, 0, 0], &[1], &[]] {
            assert_eq!(Attributes::new(bytes).count(), 0, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes: Vec<u8>) {
            for attribute in Attributes::new(&bytes).take(bytes.len() + 1) {
                let _ = (attribute.u8(), attribute.u32(), attribute.text());
                let _ = attribute.nested().count();
            }
        }
    }
}
