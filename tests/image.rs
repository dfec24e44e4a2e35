//! `apollo-bench image`: the written files, and their use in Docker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs,
    io::Read,
    path::{Component, Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use flate2::read::GzDecoder;
use object::{
    Endianness,
    elf::{DT_NEEDED, FileHeader64},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{bench_command, has_docker, wait_for};
use tempfile::TempDir;

fn image(folder: &Path, args: &[&str]) -> Output {
    bench_command().args(["image", "--json", "--output"]).arg(folder).args(args).output().unwrap()
}

/// Description that the command prints of a built image.
fn built(folder: &Path, args: &[&str]) -> Value {
    let output = image(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An image that is built once for all tests: its files, by their paths.
struct Image {
    report: Value,
    files: BTreeMap<String, Vec<u8>>,
}

static IMAGE: OnceLock<Image> = OnceLock::new();

impl Image {
    fn get() -> &'static Self {
        IMAGE.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            Self { report: built(folder.path(), &[]), files: read_folder(folder.path()) }
        })
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.files[path]).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let data = &self.files[&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))];
        assert_eq!(descriptor["size"], data.len());
        data
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(self.blob(&self.json("index.json")["manifests"][0])).unwrap()
    }

    fn layer(&self) -> Vec<u8> {
        let mut layer = vec![];
        GzDecoder::new(self.blob(&self.manifest()["layers"][0])).read_to_end(&mut layer).unwrap();
        layer
    }
}

fn read_folder(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_second_build_over_the_first_gives_the_same_image() {
    let first = Image::get();
    let folder = tempfile::tempdir().unwrap();
    // An earlier image, of which a blob is no longer needed.
    fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
    fs::write(folder.path().join("blobs/sha256/0000"), "").unwrap();
    fs::write(folder.path().join("index.json"), &first.files["index.json"]).unwrap();
    let second = built(folder.path(), &[]);
    for key in ["tag", "config_digest", "manifest_digest", "layer_digest", "uncompressed_bytes", "compressed_bytes"] {
        assert!(!second[key].is_null());
        assert_eq!(second[key], first.report[key], "{key}");
    }
    let files = read_folder(folder.path());
    assert!(files.keys().eq(first.files.keys()), "{:?}", files.keys());
    assert!(files == first.files, "the same digests, but other bytes");
}

#[test]
fn the_layout_holds_together() {
    let image = Image::get();
    let blobs: Vec<_> =
        image.files.iter().filter_map(|(path, data)| Some((path.strip_prefix("blobs/sha256/")?, data))).collect();
    assert_eq!(blobs.len(), 3);
    for (name, data) in blobs {
        assert_eq!(sha256(data), name);
    }
    assert_eq!(image.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let (manifest, layer) = (image.manifest(), image.layer());
    let config: Value = serde_json::from_slice(image.blob(&manifest["config"])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&layer)));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(config["os"], "linux");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/bin/apollo-bench"]));
    assert_eq!(config["config"]["User"], "65534:65534");
    let report = &image.report;
    assert_eq!(report["config_digest"], manifest["config"]["digest"]);
    assert_eq!(report["layer_digest"], manifest["layers"][0]["digest"]);
    assert_eq!(report["uncompressed_bytes"], layer.len());
    let id = report["config_digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_eq!(report["tag"], format!("apollo-network-benchmark:{}", &id[..12]));
    // The programs of a build without optimisation take about twice the space of a release.
    assert!(layer.len() < 130_000_000, "{} bytes are no small image", layer.len());
}

#[test]
fn the_archive_is_the_layout_with_dockers_list() {
    let image = Image::get();
    let mut archived = BTreeMap::new();
    for entry in tar::Archive::new(image.files["image.tar"].as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut data = vec![];
        entry.read_to_end(&mut data).unwrap();
        if entry.header().entry_type().is_file() {
            archived.insert(entry.path().unwrap().to_str().unwrap().to_owned(), data);
        }
    }
    let list: Value = serde_json::from_slice(&archived.remove("manifest.json").unwrap()).unwrap();
    let mut layout = image.files.clone();
    layout.remove("image.tar");
    assert!(archived == layout, "{:?}", archived.keys());
    assert_eq!(list[0]["RepoTags"][0], image.report["tag"]);
    for path in [&list[0]["Config"], &list[0]["Layers"][0]] {
        assert!(layout.contains_key(path.as_str().unwrap()), "{path}");
    }
}

/// Files and symbolic links of a layer.
#[derive(Default)]
struct Layer {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Layer {
    /// Reads a layer; checks that root owns all files, that all have one time, and that every folder comes before its
    /// files.
    fn read(layer: &[u8]) -> Self {
        let mut read = Self::default();
        let mut before = PathBuf::new();
        for entry in tar::Archive::new(layer).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (header, path) = (entry.header().clone(), Path::new("/").join(entry.path().unwrap()));
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0), "{path:?}");
            assert!(path > before, "{path:?} after {before:?}");
            before.clone_from(&path);
            if let Some(target) = entry.link_name().unwrap() {
                read.links.insert(path, target.into_owned());
                continue;
            }
            let mut data = vec![];
            entry.read_to_end(&mut data).unwrap();
            read.files.insert(path, (header.mode().unwrap(), data));
        }
        read
    }

    /// File at the end of a path inside the image.
    fn resolve(&self, path: &Path) -> Option<&Vec<u8>> {
        let parts = |path: &Path| -> VecDeque<OsString> {
            let parts = path.components().filter(|part| *part != Component::RootDir);
            parts.map(|part| part.as_os_str().to_owned()).collect()
        };
        let (mut at, mut left) = (PathBuf::from("/"), parts(path));
        while let Some(part) = left.pop_front() {
            if part == ".." {
                at.pop();
            } else if let Some(target) = self.links.get(&at.join(&part)) {
                if target.is_absolute() {
                    at = "/".into();
                }
                left = parts(target).into_iter().chain(left).collect();
            } else {
                at.push(part);
            }
        }
        self.files.get(&at).map(|(_, data)| data)
    }
}

/// Interpreter and libraries of an ELF file, read from its segments, because a stripped file has no sections.
fn needs(data: &[u8]) -> (Option<String>, Vec<String>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap();
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let segments = header.program_headers(endian, data).unwrap();
    let at = |address: u64| {
        segments.iter().find_map(|s| {
            s.data_range(endian, data, address, 0)
                .ok()
                .flatten()
                .map(|_| (address - s.p_vaddr(endian) + s.p_offset(endian)) as usize)
        })
    };
    let interpreter = segments.iter().find_map(|segment| segment.interpreter(endian, data).unwrap()).map(text);
    let Some(dynamic) = segments.iter().find_map(|segment| segment.dynamic(endian, data).unwrap()) else {
        return (interpreter, vec![]);
    };
    let strings = dynamic.iter().find(|entry| entry.tag(endian) == object::elf::DT_STRTAB).unwrap();
    let strings = at(strings.val(endian)).unwrap();
    let needed = dynamic.iter().filter(|entry| entry.tag(endian) == DT_NEEDED);
    (interpreter, needed.map(|entry| text(&data[strings + entry.val(endian) as usize..])).collect())
}

#[test]
fn every_program_has_its_libraries_in_the_layer() {
    let layer = Layer::read(&Image::get().layer());
    let mut programs = 0;
    let folders: Vec<&Path> = layer
        .files
        .keys()
        .filter(|path| path.to_str().unwrap().contains(".so"))
        .filter_map(|path| path.parent())
        .collect();
    for (path, (mode, data)) in layer.files.iter().filter(|(_, (_, data))| data.starts_with(b"\x7fELF")) {
        assert_eq!(*mode, 0o755, "{path:?}");
        let (interpreter, libraries) = needs(data);
        if let Some(interpreter) = interpreter {
            programs += usize::from(path.starts_with("/bin"));
            assert!(layer.resolve(Path::new(&interpreter)).is_some(), "{path:?} needs {interpreter}");
        }
        for library in libraries {
            let found = folders.iter().any(|folder| layer.resolve(&folder.join(&library)).is_some());
            assert!(found, "{path:?} needs {library}");
        }
    }
    assert_eq!(programs, 4, "apollo-bench, the node, tc and ip");
    assert_eq!(layer.files[Path::new("/tmp")].0, 0o1777);
    let passwd = String::from_utf8(layer.files[Path::new("/etc/passwd")].1.clone()).unwrap();
    assert!(passwd.contains("root:x:0:0:") && passwd.contains("nobody:x:65534:65534:"), "{passwd}");
}

#[test]
fn foreign_files_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    for (args, reason) in [(&[][..], "contains something other than an image"), (&["--tag", "Bench"], "--tag Bench")] {
        let output = image(folder.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(reason) && stderr.lines().count() == 1, "{stderr}");
    }
    assert_eq!(read_folder(folder.path()).len(), 1);
}

/// An image in Docker, and a container of it: both are removed after any end of the test.
struct InDocker {
    tag: String,
    container: String,
    _folder: TempDir,
}

impl InDocker {
    fn load() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tag = format!("apollo-network-benchmark-test:{}", std::process::id());
        let container = format!("apollo-network-benchmark-test-{}", std::process::id());
        let loaded = Self { tag, container, _folder: folder };
        let report = built(loaded._folder.path(), &["--load", "--tag", &loaded.tag]);
        assert_eq!(report["loaded"], report["tag"]);
        assert_eq!(report["config_digest"], Image::get().report["config_digest"]);
        loaded
    }

    /// Runs a container to its end; returns true if it succeeded, and its output.
    fn run(&self, options: &str, args: &str) -> (bool, String) {
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--network", "none"]).args(options.split_whitespace()).arg(&self.tag);
        let output = command.args(args.split_whitespace()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

impl Drop for InDocker {
    fn drop(&mut self) {
        for args in [["rm", "--force", &self.container], ["rmi", "--force", &self.tag]] {
            let _ = Command::new("docker").args(args).output();
        }
    }
}

#[test]
fn docker_loads_and_runs_it() {
    if !has_docker("an image that is loaded and run") {
        return;
    }
    let docker = InDocker::load();

    for args in ["", "--help", "node --help"] {
        let (well, text) = docker.run("", args);
        assert!(well && text.contains("Usage: apollo-bench"), "{args}: {text}");
    }
    let (well, text) = docker.run("--entrypoint broadcast_network_stress_test_node", "--version");
    assert!(well && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let (well, text) = docker.run("--cap-add NET_ADMIN --user 0 --entrypoint tc", "qdisc show");
    assert!(well && text.contains("dev lo"), "{text}");
    let (well, text) = docker.run("--entrypoint ip", "address show dev lo");
    assert!(well && text.contains("127.0.0.1/8"), "{text}");
    // The kernel may have no netem; but tc must not complain about the table, which it reads first.
    let netem = "qdisc add dev lo root netem delay 2ms 1ms distribution";
    let (_, text) = docker.run("--cap-add NET_ADMIN --user 0 --entrypoint tc", &format!("{netem} normal"));
    assert!(!text.contains("distribution"), "{text}");

    // A whole run, by a user who may write only to /tmp, and who is not root.
    let mut command = Command::new("docker");
    command.args(["run", "--detach", "--network", "none", "--name", &docker.container, &docker.tag]);
    command.args(["local", "--num-nodes=2", "--warm-up-seconds=1", "--timeout=3"]);
    assert!(command.output().unwrap().status.success());
    let text = |args: [&str; 4]| String::from_utf8(Command::new("docker").args(args).output().unwrap().stdout).unwrap();
    let users = wait_for("the nodes", || {
        let listed = text(["top", &docker.container, "-eo", "pid,uid"]);
        let users: Vec<String> =
            listed.lines().skip(1).filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect();
        (users.len() == 3).then_some(users)
    });
    assert_eq!(users, ["65534"; 3]);
    wait_for("the end of the run", || {
        (text(["inspect", "--format", "{{.State.Running}}", &docker.container]).trim() == "false").then_some(())
    });
    assert_eq!(text(["inspect", "--format", "{{.State.ExitCode}}", &docker.container]).trim(), "0");
    assert!(text(["logs", "--tail", "5", &docker.container]).contains("The run is valid."));
}
