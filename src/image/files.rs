//! Files of an image: this program, the node, tc, ip, and their dependencies.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    elf,
    error::ImageError,
    tree::{Entry, Tree},
};
use crate::terminal::tell;

const RUNNER: &str = "/bin/apollo-bench";
const NODE: &str = "broadcast_network_stress_test_node";

/// Programs of iproute2: tc shapes the traffic of a node, ip activates its links.
const TOOLS: [&str; 2] = ["tc", "ip"];

/// Folders of the administrator's programs, which a user's `PATH` often lacks.
const ADMIN_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Libraries that GNU's C library loads by itself to resolve names; new versions have them built in.
const RESOLVERS: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

const PASSWD: &str = "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Modes that don't depend on the host's installation of a file.
const PROGRAM: u32 = 0o755;
const DATA: u32 = 0o644;

/// Collects the files of an image of this host's programs.
pub(super) fn collect() -> Result<Tree, ImageError> {
    let runner = env::current_exe().and_then(fs::canonicalize).map_err(|error| {
        ImageError::Failed(format!("this program's own file no longer exists, start the program again: {error}"))
    })?;
    let folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    let tools = find_tools(&folders, &ADMIN_FOLDERS.map(PathBuf::from))?;

    let mut tree = Tree::default();
    tree.put(Path::new("/tmp"), Entry::Directory { mode: 0o1777 })?;
    for (path, text) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/nsswitch.conf", NSSWITCH)] {
        tree.put(Path::new(path), Entry::File { mode: DATA, data: text.into() })?;
    }
    add_program(&mut tree, &runner, Path::new(RUNNER), true)?;
    let node = runner.with_file_name(NODE);
    if node.is_file() {
        add_program(&mut tree, &node, &Path::new("/bin").join(NODE), true)?;
    } else {
        tell(&format!("{} is left out, because it does not exist: `apollo-bench node` is the same", node.display()));
    }
    for (name, path) in TOOLS.iter().zip(&tools) {
        add_program(&mut tree, path, &Path::new("/bin").join(name), false)?;
        if *name == "tc" {
            add_distributions(&mut tree, path)?;
        }
    }
    Ok(tree)
}

fn find_tools(path: &[PathBuf], admin: &[PathBuf]) -> Result<Vec<PathBuf>, ImageError> {
    let find = |name: &&str| {
        let candidates = path.iter().chain(admin).map(|folder| folder.join(name));
        candidates.into_iter().find(|file| {
            fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        })
    };
    let found: Vec<_> = TOOLS.iter().map(find).collect();
    let missing: Vec<&str> = TOOLS.into_iter().zip(&found).filter(|(_, path)| path.is_none()).map(|t| t.0).collect();
    if missing.is_empty() {
        return Ok(found.into_iter().flatten().collect());
    }
    Err(ImageError::Usage(format!(
        "{} not found in PATH, /usr/sbin and /sbin, and the image needs both tc and ip: apt-get install iproute2",
        missing.join(" and ")
    )))
}

/// Adds a program at a place of the image's own, and its libraries at the places where its loader looks for them.
fn add_program(tree: &mut Tree, from: &Path, to: &Path, strip: bool) -> Result<(), ImageError> {
    let mut data = fs::read(from).map_err(|error| ImageError::io(from, &error))?;
    let interpreter = elf::interpreter(&data).map_err(|_| {
        ImageError::Usage(format!("{} is no ELF program: put the real one first in PATH", from.display()))
    })?;
    if let Some(interpreter) = interpreter {
        add_libraries(tree, from, &interpreter)?;
    }
    if strip && !elf::strip(&mut data) {
        tell(&format!("{} keeps its debug information: it is no 64-bit ELF file", from.display()));
    }
    tree.put(to, Entry::File { mode: PROGRAM, data })
}

fn add_libraries(tree: &mut Tree, program: &Path, interpreter: &Path) -> Result<(), ImageError> {
    tree.put_from_host(interpreter, PROGRAM)?;
    let libraries = elf::libraries(program, interpreter)?;
    for library in &libraries.found {
        tree.put_from_host(&library.path, PROGRAM)?;
    }
    let c_library = libraries.found.iter().find(|library| library.name == "libc.so.6");
    let Some(folder) = c_library.and_then(|library| library.path.parent()) else { return Ok(()) };
    for resolver in RESOLVERS.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file()) {
        tree.put_from_host(&resolver, PROGRAM)?;
    }
    if !libraries.by_cache {
        return Ok(());
    }
    // Symbolic links in a folder that the loader searches replace the cache.
    let real = fs::canonicalize(folder).map_err(|error| ImageError::io(folder, &error))?;
    for library in &libraries.found {
        let link = real.join(&library.name);
        // A library that is named by its path is not searched for.
        if !library.name.contains('/') && !tree.contains(&link) {
            tree.put(&link, Entry::Link { target: library.path.clone() })?;
        }
    }
    Ok(())
}

/// Adds the tables of netem's distributions, from the folder that is compiled into tc.
fn add_distributions(tree: &mut Tree, tc: &Path) -> Result<(), ImageError> {
    let program = fs::read(tc).map_err(|error| ImageError::io(tc, &error))?;
    let mut tables: BTreeSet<PathBuf> = BTreeSet::new();
    for folder in library_folders(&program) {
        let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        tables.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "dist")));
    }
    if tables.is_empty() {
        tell("no tables of netem's distributions are found: delays can have a jitter, but no `distribution`");
    }
    tables.iter().try_for_each(|table| tree.put_from_host(table, DATA))
}

/// Folders of tables that are compiled into tc: text in the program that ends in `/tc/`.
fn library_folders(program: &[u8]) -> impl Iterator<Item = &Path> {
    let texts = program.split(|byte| *byte == 0).filter(|text| text.starts_with(b"/") && text.ends_with(b"/tc/"));
    texts.filter_map(|text| std::str::from_utf8(text).ok()).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_in_order_and_their_lack_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
        }
        let (path, admin) = ([first.clone()], [second.clone()]);
        let error = find_tools(&path, &admin).unwrap_err();
        assert!(matches!(error, ImageError::Usage(_)));
        assert!(error.to_string().starts_with("tc and ip not found"), "{error}");

        let install = |file: PathBuf, mode| {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        install(second.join("tc"), 0o755);
        let error = find_tools(&path, &admin).unwrap_err().to_string();
        assert!(error.starts_with("ip not found") && error.ends_with("apt-get install iproute2"), "{error}");

        // A file without execute permission is not the program.
        install(first.join("tc"), 0o644);
        install(first.join("ip"), 0o755);
        assert_eq!(find_tools(&path, &admin).unwrap(), [second.join("tc"), first.join("ip")]);
    }

    #[test]
    fn the_folder_of_the_tables_is_read_from_tc() {
        let program = b"\x7fELF\0x/tc/\0/usr/lib/x86_64-linux-gnu/tc/\0%s/%s.dist\0/etc/tc\0";
        let found: Vec<_> = library_folders(program).collect();
        assert_eq!(found, [Path::new("/usr/lib/x86_64-linux-gnu/tc/")]);
    }
}
