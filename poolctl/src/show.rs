//! The commands that look into a running stack: `status`, `top` and `explain`.

mod explain;
pub mod latency;
mod status;
pub mod table;
#[cfg(test)]
mod tests;
mod top;

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use crate::admin::messages::{ModelStatus, Status};
use crate::cli::{DataFormat, ExplainArgs, Output, StatusArgs, TopArgs};
use crate::client::Client;

pub use status::{models_table, pools_table};

/// `poolctl status`.
///
/// # Errors
/// Nothing answers, or the output cannot be written.
pub fn status(arguments: &StatusArgs) -> anyhow::Result<()> {
    let client = Client::new(&arguments.server.server)?;
    let status = runtime()?.block_on(client.status())?;
    let text = match arguments.output {
        Some(Output::Json) => json(&status)?,
        Some(Output::Yaml) => yaml(&status)?,
        Some(Output::Wide) => status::render(&status, status::Width::Wide),
        None => status::render(&status, status::Width::Narrow),
    };
    print(&text)
}

/// `poolctl top`.
///
/// # Errors
/// Nothing answers, or the output cannot be written.
pub fn top(arguments: &TopArgs) -> anyhow::Result<()> {
    let client = Client::new(&arguments.server.server)?;
    runtime()?.block_on(async {
        let (mut before, mut at) = (client.status().await?, Instant::now());
        loop {
            tokio::time::sleep(arguments.interval).await;
            let now = client.status().await?;
            let rates = top::rates(&before, &now, at.elapsed());
            (before, at) = (now, Instant::now());
            let text = match arguments.output {
                Some(DataFormat::Json) => json(&rates)?,
                Some(DataFormat::Yaml) => yaml(&rates)?,
                None => top::render(&rates, &before),
            };
            if arguments.once {
                return print(&text);
            }
            print(&screen(&text, arguments.output))?;
        }
    })
}

/// `poolctl explain`.
///
/// # Errors
/// Nothing answers, or the model is not there or ambiguous.
pub fn explain(arguments: &ExplainArgs) -> anyhow::Result<()> {
    let client = Client::new(&arguments.server.server)?;
    let explanation = runtime()?.block_on(async {
        let status = client.status().await?;
        let model = find(&status, &arguments.model).map_err(anyhow::Error::msg)?;
        Ok::<_, anyhow::Error>(client.explain(&model.namespace, &model.name, arguments.bytes).await?)
    })?;
    let text = match arguments.output {
        Some(DataFormat::Json) => json(&explanation)?,
        Some(DataFormat::Yaml) => yaml(&explanation)?,
        None => explain::render(&explanation),
    };
    print(&text)
}

/// The model called `NAME` or `NAMESPACE/NAME`.
fn find<'a>(status: &'a Status, wanted: &str) -> Result<&'a ModelStatus, String> {
    let matching: Vec<_> = match wanted.split_once('/') {
        Some((namespace, name)) => {
            status.models.iter().filter(|model| model.namespace == namespace && model.name == name).collect()
        }
        None => status.models.iter().filter(|model| model.name == wanted).collect(),
    };
    let listed = |models: &mut dyn Iterator<Item = &ModelStatus>| {
        models.map(|model| format!("{}/{}", model.namespace, model.name)).collect::<Vec<_>>().join(", ")
    };
    match matching.as_slice() {
        [model] => Ok(model),
        [] if status.models.is_empty() => Err(format!("there is no model {wanted}: there are no models")),
        [] => Err(format!("there is no model {wanted}: there are {}", listed(&mut status.models.iter()))),
        several => {
            Err(format!("several models are called {wanted}: name one of {}", listed(&mut several.iter().copied())))
        }
    }
}

/// On a terminal a new look replaces the one before; elsewhere they follow each other.
fn screen(text: &str, output: Option<DataFormat>) -> String {
    /// Cursor home, then clear to the end of the screen: without the flicker of clearing first.
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K\n";
    const CLEAR_BELOW: &str = "\x1b[J";
    let is_table = output.is_none();
    if is_table && io::IsTerminal::is_terminal(&io::stdout()) {
        format!("{HOME}{}{CLEAR_BELOW}", text.replace('\n', CLEAR_LINE))
    } else {
        text.to_owned()
    }
}

pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

pub(crate) fn yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

/// A reader that closes the pipe early (`head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
