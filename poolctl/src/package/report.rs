//! What is said about an image that was made.

use std::fmt::Write as _;
use std::path::Path;

use poolctl_image::{ImageSummary, LayerOrigin};
use serde::Serialize;

use super::model::PackagedModel;
use super::push::Pushed;
use crate::show::table::{Align, Table};

/// Form that an image is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    /// One tar file.
    Archive,
    /// An OCI image layout.
    Layout,
}

/// All that is said about an image that was made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account<'a> {
    #[serde(flatten)]
    image: &'a ImageSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Model<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<Written<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<&'a Pushed>,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    format: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    form: Form,
}

// === impl Account ===

impl<'a> Account<'a> {
    pub(super) fn new(
        image: &'a ImageSummary,
        model: Option<&'a PackagedModel>,
        written: Option<(&'a Path, Form)>,
        pushed: Option<&'a Pushed>,
    ) -> Self {
        let model =
            model.map(|model| Model { name: &model.name, format: model.format.as_str(), digest: &model.digest });
        Self { image, model, written: written.map(|(path, form)| Written { path, form }), pushed }
    }
}

/// For people.
pub(super) fn render(account: &Account<'_>) -> String {
    let image = account.image;
    let mut text = String::new();
    let _ = writeln!(text, "{}  {}  {}\n{}\n", image.reference, image.platform, size(image.bytes), image.digest);
    let mut layers = Table::new(&[("LAYER", Align::Left), ("SIZE", Align::Right), ("HOLDS", Align::Left)]);
    for layer in &image.layers {
        let holds = match (layer.origin, &layer.comment) {
            (LayerOrigin::Base, _) => "of the base image".to_owned(),
            (LayerOrigin::Added, comment) => comment.clone().unwrap_or_default(),
        };
        layers.row([short(&layer.digest), size(layer.bytes), holds]);
    }
    let _ = writeln!(text, "{layers}");
    let run = format!("docker run --read-only -p 8012:8012 {}", image.reference);
    match &account.written {
        Some(Written { path, form: Form::Archive }) => {
            let path = path.display();
            let _ = writeln!(text, "written to {path}; `ctr images import {path}`, or:\n  docker load -i {path}");
        }
        Some(Written { path, form: Form::Layout }) => {
            let _ = writeln!(text, "written to the image layout {}", path.display());
        }
        None => {}
    }
    if let Some(pushed) = account.pushed {
        let _ = writeln!(
            text,
            "pushed to {}: {} uploaded, {} there already",
            pushed.reference, pushed.uploaded, pushed.present
        );
    }
    let runnable = account.pushed.is_some() || matches!(account.written, Some(Written { form: Form::Archive, .. }));
    if let (true, Some(model)) = (runnable, &account.model) {
        let _ = writeln!(text, "  {run}\n  curl localhost:8012/v2/models/{}", model.name);
    }
    text
}

/// The start of a digest, which is enough to tell layers apart.
fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// As registries and `docker images` count.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(
            [999, 1_000, 999_949, 1_000_000, 71_260_000].map(size),
            ["999 B", "1.0 kB", "999.9 kB", "1.0 MB", "71.3 MB"]
        );
    }
}
