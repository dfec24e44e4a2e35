//! A kernel with netem: User-Mode Linux, booted on this host's own root file system, in which `apollo-bench` runs as it
//! would on any machine.
#![allow(unreachable_pub, reason = "a module of a test program")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Modules that the shaped network needs.
const MODULES: &str = "sch_netem sch_tbf sch_htb sch_ingress cls_u32 act_mirred ifb veth bridge ipv6";

/// Folder of the kernel's modules in Debian's package.
const PACKAGED_MODULES: &str = "/usr/lib/uml/modules";

/// Maximum time of everything that runs in the guest.
const LIMIT: Duration = Duration::from_secs(600);

/// Reason why the kernel can't be booted here, if it can't.
pub fn missing() -> Option<String> {
    for program in ["linux.uml", "depmod", "modprobe"] {
        if !found(program) {
            return Some(format!("{program} is not there: apt-get install user-mode-linux kmod iproute2"));
        }
    }
    version().is_none().then(|| format!("{PACKAGED_MODULES} has no modules: apt-get install user-mode-linux"))
}

fn found(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

fn version() -> Option<String> {
    let folder = fs::read_dir(PACKAGED_MODULES).ok()?.next()?.ok()?;
    folder.file_name().into_string().ok()
}

/// Runs `script` (bash, as root) in the guest, and returns its exit status and its output. Its files are the host's.
pub fn run(script: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    install_modules(&folder);
    fs::write(path("script"), script).unwrap();
    let init = format!(
        "#!/bin/bash\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /dev/shm\n\
         ip link set lo up; cd {folder}\n\
         for module in {MODULES}; do modprobe --dirname {folder} $module; done >> printed 2>&1\n\
         bash script </dev/null >> printed 2>&1\n\
         echo $? > status\n\
         sync; echo o > /proc/sysrq-trigger; sleep 10\n",
        folder = folder.path().display()
    );
    fs::write(path("init"), init).unwrap();
    fs::set_permissions(path("init"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path("printed"), "").unwrap();
    let console = fs::File::create(path("console")).unwrap();
    let mut kernel = Command::new("linux.uml")
        .args(["mem=768M", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=null,fd:1", "quiet"])
        .arg(format!("init={}", path("init").display()))
        .arg(format!("uml_dir={}/", folder.path().display()))
        .arg("umid=test")
        .stdin(Stdio::null())
        .stdout(console.try_clone().unwrap())
        .stderr(console)
        .spawn()
        .unwrap();
    let started = Instant::now();
    while kernel.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            kernel.kill().unwrap();
            kernel.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let read = |name: &str| fs::read(path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let printed = read("printed").unwrap();
    let status = read("status").ok().and_then(|text| text.trim().parse().ok());
    let status = status.unwrap_or_else(|| panic!("no exit status:\n{printed}\n{}", read("console").unwrap()));
    (status, printed)
}

/// Installs the modules in a folder of the test's own, because /lib/modules is the host's.
fn install_modules(folder: &TempDir) {
    let version = version().unwrap();
    let modules = folder.path().join("lib/modules");
    fs::create_dir_all(&modules).unwrap();
    let copied = Command::new("cp").arg("-r").arg(packaged(&version)).arg(&modules).status().unwrap();
    assert!(copied.success());
    let depmod = Command::new("/sbin/depmod").arg("-b").arg(folder.path()).arg(&version).status().unwrap();
    assert!(depmod.success());
}

fn packaged(version: &str) -> PathBuf {
    Path::new(PACKAGED_MODULES).join(version)
}
