//! Requirements of containers before the first one is created: Docker itself, an image, networks.

use std::{io, net::IpAddr, path::PathBuf};

use ipnet::Ipv4Net;
use nix::sys::utsname::uname;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{
    arguments::ImageSource,
    client::{self, Daemon, ask},
    reaper::{self, Reaper},
    subnet,
};
use crate::{
    children::Runner,
    deploy::{deployment::StartError, netns::Namespace},
    image::{self, ImageError, ImageRequest, ImageStream},
    node::NodeConfig,
    shaping::{Interface, InterfacePlan, ShapingError, ip_batch},
    signals::Interrupts,
    terminal::tell,
};

/// Maximum number of subnets that are tried: other programs may take one between the check and the attempt.
const SUBNETS: usize = 16;

/// An image in Docker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Image {
    name: String,
    pub(super) id: String,
}

/// Prepared parts of a run's containers. Dropping it removes from Docker everything that the run has made.
pub(crate) struct Prepared {
    pub(super) image: Image,
    pub(super) labels: Labels,
    pub(super) reaper: Reaper,
    addresses: Vec<[IpAddr; 2]>,
}

impl Prepared {
    /// Image of the containers.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Addresses of the nodes, IPv4 and IPv6, in their order.
    pub(crate) fn addresses(&self) -> &[[IpAddr; 2]] {
        &self.addresses
    }
}

/// Labels of a run's objects in Docker.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    run: String,
    runner: String,
}

impl Labels {
    /// Flags of `docker create` and `docker network create`.
    pub(super) fn flags(&self) -> [String; 2] {
        [format!("--label={}={}", reaper::RUN, self.run), format!("--label={}={}", reaper::RUNNER, self.runner)]
    }

    /// Name of a part of the run.
    pub(super) fn name(&self, part: &str) -> String {
        format!("apollo-bench-{}-{part}", self.run)
    }
}

/// Requirements of a run.
pub(crate) struct Request<'a> {
    /// Nodes of the run.
    pub(crate) nodes: &'a [NodeConfig],
    /// Plans of their interfaces.
    pub(crate) interfaces: &'a [InterfacePlan],
    /// Source of their image.
    pub(crate) source: ImageSource<'a>,
    /// Parent folder of temporary folders.
    pub(crate) scratch: PathBuf,
}

/// Prepares the containers of a run.
pub(crate) async fn prepare(request: Request<'_>) -> Result<Prepared, StartError> {
    let mut interrupts = Interrupts::new().map_err(|error| StartError::Failed(error.to_string()))?;
    tokio::select! {
        prepared = make_ready(request) => prepared,
        cause = interrupts.next() => {
            Err(StartError::Failed(format!("{} before the nodes were started", cause.reason())))
        }
    }
}

/// All containers share the kernel's table of neighbours; beyond its size they can't reach one another.
fn check_neighbours(num_nodes: u64) -> Result<(), StartError> {
    let path = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let most: Option<u64> = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    let needed = num_nodes.saturating_mul(num_nodes + 1);
    match most {
        Some(most) if needed > most => Err(StartError::Usage(format!(
            "{num_nodes} containers need {needed} entries in the kernel's table of neighbours, which holds {most}: raise it \
             (sysctl net.ipv4.neigh.default.gc_thresh3={needed}), or use --backend netns, which needs none"
        ))),
        _ => Ok(()),
    }
}

async fn make_ready(request: Request<'_>) -> Result<Prepared, StartError> {
    let Request { nodes, interfaces, source, scratch } = request;
    check_neighbours(nodes.len() as u64)?;
    let daemon = client::daemon().await?;
    can_shape(interfaces, &daemon)?;
    let run = format!("{:x}", nodes.first().map_or(0, |node| node.run_id));
    let runner = Runner::this().map_err(StartError::Failed)?.to_string();
    let labels = Labels { run: run.clone(), runner };
    let reaper = Reaper::start(&run).map_err(StartError::Failed)?;
    match reaper::sweep().await {
        Ok(None) => {}
        Ok(Some(line)) => tell(&line),
        Err(line) => tell(&format!("warning: the remains of earlier runs in Docker can't be removed: {line}")),
    }
    let image = match source {
        ImageSource::Given(name) => given(name, &labels).await?,
        ImageSource::Stream(stream) => streamed(stream.clone()).await?,
        ImageSource::Host => of_host(scratch).await?,
    };
    let data = networks(&labels).await?;
    let addresses = nodes.iter().map(|node| subnet::addresses(data, node.id)).collect();
    Ok(Prepared { image, labels, reaper, addresses })
}

/// Tries the plans in a temporary namespace, so that a kernel that lacks something is found before anything is made.
fn can_shape(plans: &[InterfacePlan], daemon: &Daemon) -> Result<(), StartError> {
    let hardest =
        plans.iter().find(|plan| plan.needs_netem()).or_else(|| plans.iter().find(|plan| !plan.is_unshaped()));
    let Some(plan) = hardest.cloned() else { return Ok(()) };
    // Docker may run in a virtual machine with another kernel.
    if uname().is_ok_and(|host| host.release().to_string_lossy() != daemon.kernel_version) {
        return Ok(());
    }
    // If this user may not make namespaces, the first container shows the result.
    let Ok(namespace) = Namespace::new() else { return Ok(()) };
    let attempt = move || -> Result<(), ShapingError> {
        ip_batch(&["link add try0 type veth peer name try1".to_owned()])?;
        Interface::named("try0")?.apply(&plan)
    };
    match namespace.run(attempt) {
        Ok(Err(error @ ShapingError::NoModule { .. })) => Err(StartError::Usage(error.to_string())),
        _ => Ok(()),
    }
}

async fn id_of_image(name: &str) -> Result<String, String> {
    ask(&["image", "inspect", "--format", "{{.Id}}", name]).await.map(|id| id.trim().to_owned())
}

/// Uses an image that Docker has, if it contains the program.
async fn given(name: &str, labels: &Labels) -> Result<Image, StartError> {
    let refused = |line: String| Err(StartError::Usage(format!("--image {name}: {line}")));
    if name.is_empty() || name.starts_with('-') {
        return refused("no name of an image".into());
    }
    let id = match id_of_image(name).await {
        Ok(id) => id,
        Err(line) => {
            let way_out = "get it with docker pull or docker load, or leave --image out to have one built";
            return refused(format!("Docker does not have it ({line}): {way_out}"));
        }
    };
    let container = labels.name("version");
    let [run, runner] = labels.flags();
    let (container, network) = (format!("--name={container}"), "--network=none");
    let options = ["run", "--rm", "--pull=never", &container, &run, &runner, network, "--cap-drop=ALL", "--read-only"];
    let program = ["--entrypoint=apollo-bench", &id, "--version"];
    match ask(&[&options[..], &program[..]].concat()).await {
        Ok(version) if version.starts_with("apollo-bench ") => Ok(Image { name: name.to_owned(), id }),
        Ok(version) => {
            let first: String = version.lines().next().unwrap_or_default().chars().take(80).collect();
            refused(format!("its apollo-bench is another program: --version prints '{first}'"))
        }
        Err(line) => {
            refused(format!("apollo-bench does not run in it ({line}): make one with apollo-bench image --load"))
        }
    }
}

impl From<ImageError> for StartError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Usage(line) => Self::Usage(line),
            ImageError::Failed(line) => Self::Failed(line),
        }
    }
}

/// Uses an image that a program writes: a loaded one, or a new one, which stays loaded.
async fn streamed(stream: ImageStream) -> Result<Image, StartError> {
    let name = stream.name.clone();
    if id_of_image(&name).await.is_err() {
        let loaded = spawn_blocking(move || stream.load()).await;
        loaded.map_err(|error| StartError::Failed(format!("the image: {error}")))??;
        tell(&format!("the image {name} stays in Docker for later runs (docker rmi {name} removes it)"));
    }
    let id = id_of_image(&name).await.map_err(StartError::Failed)?;
    Ok(Image { name, id })
}

/// Uses the image of this machine's programs: a loaded one, or a new one, which stays loaded.
async fn of_host(scratch: PathBuf) -> Result<Image, StartError> {
    let ended = |error: tokio::task::JoinError| StartError::Failed(format!("the image: {error}"));
    let name = spawn_blocking(image::name_of_host_image).await.map_err(ended)??;
    if let Ok(id) = id_of_image(&name).await {
        return Ok(Image { name, id });
    }
    let built = move || {
        let failed = |error: io::Error| ImageError::Failed(format!("{}: {error}", scratch.display()));
        let output = tempfile::Builder::new().prefix("image-").tempdir_in(&scratch).map_err(failed)?;
        let built = image::build(&ImageRequest { output: output.path().to_owned(), tag: None })?;
        image::load(&built)
    };
    let name = spawn_blocking(built).await.map_err(ended)??;
    tell(&format!("the image {name} stays in Docker for later runs (docker rmi {name} removes it)"));
    let id = id_of_image(&name).await.map_err(StartError::Failed)?;
    Ok(Image { name, id })
}

/// Creates both networks: one between the nodes, without a way out, and one between the runner and the nodes, on which
/// the nodes can't reach one another. Returns the nodes' addresses in the first network.
async fn networks(labels: &Labels) -> Result<Ipv4Net, StartError> {
    let failed = |line: String| StartError::Failed(format!("the networks of the run can't be made: {line}"));
    let overlaps = |line: &str| line.to_lowercase().contains("overlap");
    let mut taken = subnet::routed();
    taken.extend(in_docker().await);
    let mut last = "all reserved address ranges are in use: docker network prune removes unused networks".to_owned();
    for [data, control] in subnet::candidates(&taken).take(SUBNETS) {
        match network(labels, "data", data, &["--internal"]).await {
            Err(line) if overlaps(&line) => {
                last = line;
                continue;
            }
            made => made.map_err(failed)?,
        }
        let apart =
            ["enable_icc", "enable_ip_masquerade"].map(|o| format!("--opt=com.docker.network.bridge.{o}=false"));
        match network(labels, "control", control, &apart.each_ref().map(String::as_str)).await {
            Err(line) if overlaps(&line) => {
                last = line;
                ask(&["network", "rm", &labels.name("data")]).await.map_err(failed)?;
            }
            made => return made.map_err(failed).map(|()| data),
        }
    }
    Err(failed(last))
}

async fn network(labels: &Labels, part: &str, subnet: Ipv4Net, options: &[&str]) -> Result<(), String> {
    let [run, runner] = labels.flags();
    let (name, subnet) = (labels.name(part), format!("--subnet={subnet}"));
    let mut args = vec!["network", "create", "--driver=bridge", &run, &runner, &subnet];
    args.extend(options);
    args.push(&name);
    ask(&args).await.map(drop)
}

/// Subnets of Docker's networks. A network that is removed meanwhile ends the list early; Docker itself refuses an
/// overlap.
async fn in_docker() -> Vec<Ipv4Net> {
    let ids = ask(&["network", "ls", "--quiet", "--no-trunc"]).await.unwrap_or_default();
    let mut args = vec!["network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"];
    args.extend(ids.lines());
    subnet::listed(&ask(&args).await.unwrap_or_default())
}
