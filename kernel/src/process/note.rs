//! The note by which binaries of ours know each other: see [`crate::elf_note`].

use crate::elf_note::{self, Note};

// The attribute counts as unsafe because a section's name gives it a meaning to the linker. A
// section of notes is only read.
#[allow(unsafe_code)]
#[used]
#[unsafe(link_section = ".note.cbr0")]
static NOTE: Note = elf_note::note();
