//! Which machines a program is for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use goblin::elf::Elf;
use goblin::elf::header::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, EM_AARCH64, EM_RISCV, EM_X86_64, SIZEOF_IDENT, machine_to_str,
};
use oci_spec::image::Arch;

use super::ProgramError;

/// Length of a 64-bit ELF file's header; 32-bit ones are shorter.
const HEADER_BYTES: u64 = 64;

/// The machine that the ELF file at `path` is for.
pub(super) fn of(path: &Path) -> Result<Arch, ProgramError> {
    let unreadable = |error| ProgramError::Read { path: path.to_owned(), error };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut start)).map_err(unreadable)?;
    let not_elf = || ProgramError::NotElf(path.to_owned());
    if start.len() < SIZEOF_IDENT {
        return Err(not_elf());
    }
    let header = Elf::parse_header(&start).map_err(|_| not_elf())?;
    let is_64_bit = header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB;
    match header.e_machine {
        EM_X86_64 if is_64_bit => Ok(Arch::Amd64),
        EM_AARCH64 if is_64_bit => Ok(Arch::ARM64),
        EM_RISCV if is_64_bit => Ok(Arch::RISCV64),
        other => Err(ProgramError::Machine { path: path.to_owned(), machine: machine_to_str(other).to_owned() }),
    }
}
