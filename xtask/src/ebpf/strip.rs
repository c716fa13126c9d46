//! Takes the debug information out of the linker's object. BTF stays: the kernel wants it. What is left is less than a
//! third, and nothing of it depends on where it was built.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// The object without its `.debug_*` sections.
///
/// # Errors
/// When the bytes are no ELF object, or cannot be written as one.
pub(crate) fn strip(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("reading the linked object")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug") || name.starts_with(b".rel.debug");
    }
    let gone: Vec<_> =
        builder.sections.iter().filter(|section| section.delete).map(|section| section.id()).collect();
    for symbol in &mut builder.symbols {
        symbol.delete |= symbol.section.is_some_and(|section| gone.contains(&section));
    }
    // LLVM keeps the names of sections and symbols in one table; the writer wants one for each.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing the stripped object")?;
    Ok(stripped)
}
