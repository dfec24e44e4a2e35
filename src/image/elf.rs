//! Dependencies of an ELF file, and its reduction.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use object::{
    Endianness, FileKind,
    elf::{FileHeader32, FileHeader64, SHN_UNDEF},
    pod,
    read::elf::{FileHeader, ProgramHeader},
};

use super::error::ImageError;

/// A library that a program loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// Name that the program requests.
    pub(super) name: String,
    /// Path that the loader finds.
    pub(super) path: PathBuf,
}

/// Libraries of a program, on all levels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Libraries {
    pub(super) found: Vec<Library>,
    /// True if the loader finds some of them only through the host's cache, which an image does not have.
    pub(super) by_cache: bool,
}

/// Dynamic linker of the program, which loads it; none if the program is linked statically.
pub(super) fn interpreter(data: &[u8]) -> object::Result<Option<PathBuf>> {
    match FileKind::parse(data)? {
        FileKind::Elf64 => interpreter_of::<FileHeader64<Endianness>>(data),
        _ => interpreter_of::<FileHeader32<Endianness>>(data),
    }
}

fn interpreter_of<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> object::Result<Option<PathBuf>> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, data)? {
        if let Some(path) = segment.interpreter(endian, data)? {
            return Ok(Some(PathBuf::from(String::from_utf8_lossy(path).into_owned())));
        }
    }
    Ok(None)
}

/// Cuts off the parts that are not loaded: debug information, symbols, the table of sections. Returns false for a kind
/// of file that can't be cut.
///
/// A program is loaded by its segments alone, and the bytes after the last one are for debuggers, so nothing needs
/// rewriting.
pub(super) fn strip(data: &mut Vec<u8>) -> bool {
    let Some(end) = end_of_segments(data) else { return false };
    let Ok((header, _)) = pod::from_bytes_mut::<FileHeader64<Endianness>>(data) else { return false };
    let Ok(endian) = FileHeader::endian(header) else { return false };
    header.e_shoff.set(endian, 0);
    header.e_shnum.set(endian, 0);
    header.e_shstrndx.set(endian, SHN_UNDEF);
    data.truncate(end);
    data.shrink_to_fit();
    true
}

fn end_of_segments(data: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let table = header.e_phoff(endian) + size_of_val(segments) as u64;
    let ends = segments.iter().map(|segment| segment.file_range(endian)).map(|(offset, size)| offset.checked_add(size));
    let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().fold(table, u64::max);
    usize::try_from(end).ok().filter(|end| *end <= data.len())
}

/// Asks the dynamic linker of a program for its libraries.
pub(super) fn libraries(program: &Path, interpreter: &Path) -> Result<Libraries, ImageError> {
    // Other C libraries than GNU's have neither a cache nor this option.
    if let Ok(found) = list(program, interpreter, &["--inhibit-cache", "--list"])? {
        return Ok(Libraries { found, by_cache: false });
    }
    match list(program, interpreter, &["--list"])? {
        Ok(found) => Ok(Libraries { found, by_cache: true }),
        Err(why) => Err(ImageError::Usage(format!(
            "{} can't be loaded on this machine, install the package of its missing library: {why}",
            program.display()
        ))),
    }
}

/// List of the dynamic linker, or the reason why it gives none.
fn list(program: &Path, interpreter: &Path, options: &[&str]) -> Result<Result<Vec<Library>, String>, ImageError> {
    let mut command = Command::new(interpreter);
    // The image does not set variables of the loader, so they are not set here either.
    let output = command.env_clear().args(options).arg(program).output();
    let output = output.map_err(|error| ImageError::io(interpreter, &error))?;
    if output.status.success() {
        return Ok(parse(&String::from_utf8_lossy(&output.stdout)));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Ok(Err(stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason is given").trim().to_owned()))
}

fn parse(text: &str) -> Result<Vec<Library>, String> {
    let mut libraries = vec![];
    for line in text.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if path == "not found" {
            return Err(line.to_owned());
        }
        let path = path.rsplit_once(" (0x").map_or(path, |(path, _)| path);
        // Other lines name no file: the kernel's own library, or a remark.
        if path.starts_with('/') {
            let name = if name == line { path } else { name };
            libraries.push(Library { name: name.to_owned(), path: generic(path) });
        }
    }
    Ok(libraries)
}

/// Build of a library for all processors, in place of one for this processor only.
fn generic(path: &str) -> PathBuf {
    let plain = path.split_once("/glibc-hwcaps/").and_then(|(folder, rest)| {
        let (_, file) = rest.split_once('/')?;
        Some(PathBuf::from(format!("{folder}/{file}")))
    });
    plain.filter(|path| path.is_file()).unwrap_or_else(|| path.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn library(name: &str, path: &str) -> Library {
        Library { name: name.into(), path: path.into() }
    }

    #[test]
    fn every_kind_of_line_is_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007f90d30f9000)\n\
                    \tlibm.so.6 => /lib/x (y)/libm.so.6 (0x00007f90d2fe8000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f90d30fb000)\n\
                    \t/lib64/ld.so => /nix/store/a/ld.so (0x00007f90d30fb000)\n\
                    \tstatically linked\n";
        let listed = parse(text).unwrap();
        let ld = "/lib64/ld-linux-x86-64.so.2";
        let expected = [
            library("libm.so.6", "/lib/x (y)/libm.so.6"),
            library(ld, ld),
            library("/lib64/ld.so", "/nix/store/a/ld.so"),
        ];
        assert_eq!(listed, expected);
        assert_eq!(parse("\tlibgone.so.1 => not found\n").unwrap_err(), "libgone.so.1 => not found");
    }

    #[test]
    fn a_stripped_program_still_runs() {
        let program = std::env::current_exe().unwrap();
        let whole = fs::read(&program).unwrap();
        let interpreter_before = interpreter(&whole).unwrap();
        let mut data = whole.clone();
        assert!(strip(&mut data));
        assert!(data.len() < whole.len());
        let once = data.clone();
        assert!(strip(&mut data));
        assert_eq!(data, once);
        assert_eq!(interpreter(&data).unwrap(), interpreter_before);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fs::write(&copy, &data).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&copy).arg("--list").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_file_that_is_no_program_is_left_alone() {
        for text in ["", "#!/bin/sh\n", "\x7fELF"] {
            let mut data = text.as_bytes().to_vec();
            assert!(!strip(&mut data));
            assert_eq!(data, text.as_bytes());
            assert!(interpreter(&data).is_err());
        }
    }
}
