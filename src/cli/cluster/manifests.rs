//! `apollo-bench cluster manifests`: all objects of a run, printed.

use kube::core::DynamicObject;
use serde::Serialize;

use super::{
    arguments::{Format, ManifestsArgs},
    plan::cluster_plan,
};
use crate::{
    cli::error::CliError,
    deploy::kubernetes::{ClusterPlan, ImageSource, names::namespace_of, objects, rights},
    terminal::{say, tell},
};

/// Note about the rights that shaped links need.
pub(super) const SHAPING_NOTE: &str = "links are shaped by a container that runs before each node, as root with NET_ADMIN, so the namespace admits \
     privileged pods; the nodes themselves run without rights";

/// Prints the manifests, and notes for the user on stderr.
pub(super) fn command(args: &ManifestsArgs) -> Result<(), CliError> {
    if args.rbac {
        return print_rights(args);
    }
    let plan = cluster_plan(&args.deployment)?;
    let objects = objects(&plan).map_err(|error| CliError::Failed(error.to_string()))?;
    let text = match args.format {
        Format::Yaml => yaml(&objects),
        Format::Json => json(&objects),
    };
    let text = text.map_err(CliError::Failed)?;
    for note in notes(&plan, args.deployment.grafana_secret.is_some()) {
        tell(&format!("note: {note}"));
    }
    say(&text);
    Ok(())
}

/// Prints the Role that the commands need in an existing namespace.
fn print_rights(args: &ManifestsArgs) -> Result<(), CliError> {
    let deployment = &args.deployment;
    let named = deployment.connect.namespace.clone().or_else(|| deployment.name.as_deref().map(namespace_of));
    let Some(namespace) = named else {
        return Err(CliError::Usage("--rbac: give the --namespace of the run".into()));
    };
    let failed = |error: serde_json::Error| CliError::Failed(error.to_string());
    let role = serde_json::to_value(rights(&namespace)).and_then(serde_json::from_value).map_err(failed)?;
    let text = match args.format {
        Format::Yaml => yaml(&[role]),
        Format::Json => json(&[role]),
    };
    tell(&format!(
        "note: 'kubectl create rolebinding apollo-bench --namespace {namespace} --role apollo-bench --user USER' gives \
         these rights to a user; the ClusterRole edit contains them too"
    ));
    say(&text.map_err(CliError::Failed)?);
    Ok(())
}

/// Notes about facts that the objects do not show, or that are easily overlooked.
fn notes(plan: &ClusterPlan, secret_is_given: bool) -> Vec<String> {
    let mut notes = vec![];
    if plan.is_shaped() {
        notes.push(SHAPING_NOTE.to_owned());
    }
    if let ImageSource::Stream(image, stream) = &plan.image {
        notes.push(format!(
            "the image {image} has to be in the registry: {} | docker load, then docker tag {} {image}, docker push {image}",
            stream.program.display(),
            stream.name
        ));
    }
    if let ImageSource::Host(image) = &plan.image {
        notes.push(format!(
            "the image {image} has to be in the registry: 'apollo-bench image --tag {image} --load', then 'docker push {image}'"
        ));
    }
    if !secret_is_given {
        notes.push("Grafana's key and password and the nodes' token are random: --grafana-secret makes them the same in every run".to_owned());
    }
    notes
}

fn yaml(objects: &[DynamicObject]) -> Result<String, String> {
    // Long lines stay lines, because folded text is hard to compare and to search.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        serde_saphyr::to_fmt_writer_with_options(&mut text, object, options.clone())
            .map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// List that `kubectl` takes as one object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [DynamicObject],
}

fn json(objects: &[DynamicObject]) -> Result<String, String> {
    let list = List { api_version: "v1", kind: "List", items: objects };
    serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(|error| error.to_string())
}
