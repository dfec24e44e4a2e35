//! Documents of an image: <https://github.com/opencontainers/image-spec>.

use std::env::consts::{ARCH, OS};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    error::ImageError,
    name::{Name, TITLE},
};

/// Time of creation in every image, a constant.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Key of the title, in labels and annotations.
const TITLE_KEY: &str = "org.opencontainers.image.title";

/// Mark of a folder that is an OCI image layout.
pub(super) const LAYOUT_MARK: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bytes that are identified by their digest.
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) data: Vec<u8>,
}

impl Blob {
    pub(super) fn new(data: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{}", hexadecimal(&Sha256::digest(&data))), data }
    }

    /// Path of its file, from the root of the layout.
    pub(super) fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.data.len() })
    }
}

/// All documents of an image with one layer.
pub(super) struct Documents {
    pub(super) config: Blob,
    pub(super) layer: Blob,
    pub(super) manifest: Blob,
    /// `index.json`: the entry point for readers of a layout.
    pub(super) index: Vec<u8>,
    /// `manifest.json`: the entry point for `docker load`.
    pub(super) docker_manifest: Vec<u8>,
}

impl Documents {
    pub(super) fn new(config: Blob, layer: Blob, name: &Name) -> Result<Self, ImageError> {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let manifest = Blob::new(text(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        }))?);
        let mut descriptor = manifest.descriptor(MANIFEST);
        descriptor["platform"] = json!({ "architecture": architecture(), "os": OS });
        // containerd and Docker use the first annotation as the name, other tools the second one.
        descriptor["annotations"] = json!({
            "io.containerd.image.name": name.in_full(),
            "org.opencontainers.image.ref.name": name.tag(),
        });
        let index = text(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
            "annotations": { TITLE_KEY: TITLE },
        }))?;
        let docker_manifest = text(&json!([{
            "Config": config.path(),
            "RepoTags": [name.to_string()],
            "Layers": [layer.path()],
        }]))?;
        Ok(Self { config, layer, manifest, index, docker_manifest })
    }
}

/// True if an `index.json` was written by this program.
pub(super) fn is_own_index(data: &[u8]) -> bool {
    serde_json::from_slice::<Value>(data).is_ok_and(|index| index["annotations"][TITLE_KEY] == TITLE)
}

/// Command and description of the image. Nothing in it depends on the machine of the build.
pub(super) fn config(diff_id: &str) -> Result<Vec<u8>, ImageError> {
    let mut labels = Map::new();
    let revision = option_env!("APOLLO_BENCH_REVISION");
    for (key, value) in [
        (TITLE_KEY, Some(TITLE)),
        ("org.opencontainers.image.description", Some(env!("CARGO_PKG_DESCRIPTION"))),
        ("org.opencontainers.image.licenses", Some(env!("CARGO_PKG_LICENSE"))),
        ("org.opencontainers.image.version", Some(env!("CARGO_PKG_VERSION"))),
        ("org.opencontainers.image.revision", revision),
    ] {
        labels.extend(value.map(|value| (key.to_owned(), json!(value))));
    }
    text(&json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": OS,
        "config": {
            "User": "65534:65534",
            "ExposedPorts": { "2000/tcp": {}, "10000/tcp": {}, "10000/udp": {} },
            "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"],
            "Entrypoint": ["/bin/apollo-bench"],
            "Cmd": ["--help"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": CREATED, "created_by": "apollo-bench image" }],
    }))
}

fn text(document: &Value) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document).map_err(|error| ImageError::Failed(error.to_string()))
}

/// Name of the processor's architecture in images, which is Go's name.
fn architecture() -> &'static str {
    let little = cfg!(target_endian = "little");
    match ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
