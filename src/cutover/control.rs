//! The socket by which another process controls a running engine: one JSON object each way.
//!
//! Only the user of the engine may connect. A rollback does not need it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::engine::{self, CommandRequest, CommandResult};
use super::state::OperatorCommand;
use super::status::StatusSnapshot;
use crate::error::{Error, Kind, Result};

const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// The reply to `finish` comes after the databases are compared.
const FINISH_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The longest path of a Unix socket, less a margin.
const PATH_LIMIT: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
struct ControlRequest {
    by: String,
    /// Without it the engine only answers with its status.
    command: Option<OperatorCommand>,
}

/// The names on the wire are those of earlier versions: client and engine may differ in version.
#[derive(Debug, Serialize, Deserialize)]
struct ControlResponse {
    #[serde(rename = "said")]
    result: Option<CommandResult>,
    #[serde(rename = "shown")]
    status: Option<StatusSnapshot>,
}

fn socket_path(dir: &Path) -> PathBuf {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let beside = dir.join("control.sock");
    if beside.as_os_str().len() <= PATH_LIMIT {
        return beside;
    }
    let digest = digest(&SHA256, beside.as_os_str().as_encoded_bytes());
    let name = data_encoding::HEXLOWER.encode(digest.as_ref().get(..8).unwrap_or_default());
    std::env::temp_dir().join(format!("kongferry-{}-{name}.sock", nix::unistd::geteuid()))
}

/// The socket of this engine; it is removed on drop.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Refuses if another engine listens.
    pub async fn listen(
        dir: &Path,
        command_sender: mpsc::Sender<CommandRequest>,
        status: watch::Receiver<Option<StatusSnapshot>>,
    ) -> Result<Control> {
        let path = socket_path(dir);
        if let Ok(Some(running)) = query_status(dir).await {
            return Err(Error::refused(format!("{} is running this cutover on this machine", running.owner))
                .detail(running.sentence)
                .remedy("Run \"kongferry cutover status --watch\" to follow it; pause, resume, promote and rollback control it."));
        }
        // A process that was killed leaves its socket.
        let _ = std::fs::remove_file(&path);
        let cannot = |e| Error::new(Kind::Io, format!("cannot listen on {}", path.display())).source(e);
        let listener = UnixListener::bind(&path).map_err(cannot)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => drop(connections.spawn(serve(stream, command_sender.clone(), status.clone()))),
                        Err(_) => break,
                    },
                    Some(_) = connections.join_next() => {}
                    _ = &mut stopped => break,
                }
            }
            // Clients that are connected get their response.
            drop(command_sender);
            while connections.join_next().await.is_some() {}
        });
        Ok(Control { path, stop: Some(stop), task })
    }

    /// Sends the last responses, now that the engine has ended.
    pub async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(
    stream: UnixStream,
    command_sender: mpsc::Sender<CommandRequest>,
    status: watch::Receiver<Option<StatusSnapshot>>,
) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    // No request is longer.
    if BufReader::new(reader).take(65_536).read_line(&mut line).await.is_err() {
        return;
    }
    let Ok(request) = serde_json::from_str::<ControlRequest>(&line) else { return };
    let result = match request.command {
        Some(command) => engine::send_command(&command_sender, command, &request.by).await,
        None => None,
    };
    let response = ControlResponse { result, status: status.borrow().clone() };
    if let Ok(mut text) = serde_json::to_vec(&response) {
        text.push(b'\n');
        let _ = writer.write_all(&text).await;
    }
}

/// The status of the engine of this directory; `None` if none runs.
pub async fn query_status(dir: &Path) -> Result<Option<StatusSnapshot>> {
    let response = exchange(dir, &ControlRequest { by: String::new(), command: None }).await?;
    Ok(response.and_then(|response| response.status))
}

/// Sends a command to the engine of this directory; `None` if none runs.
pub async fn send_command(dir: &Path, by: &str, command: OperatorCommand) -> Result<Option<CommandResult>> {
    let response = exchange(dir, &ControlRequest { by: by.to_owned(), command: Some(command) }).await?;
    Ok(response.and_then(|response| response.result))
}

async fn exchange(dir: &Path, request: &ControlRequest) -> Result<Option<ControlResponse>> {
    let Ok(mut stream) = UnixStream::connect(socket_path(dir)).await else { return Ok(None) };
    let exchange = async {
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok::<ControlResponse, std::io::Error>(serde_json::from_str(&line)?)
    };
    let timeout = match request.command {
        Some(OperatorCommand::Finish { .. }) => FINISH_TIMEOUT,
        _ => REPLY_TIMEOUT,
    };
    let silent = || {
        Error::new(Kind::Io, "the cutover process on this machine does not answer")
            .remedy("Stop that process, then run \"kongferry cutover resume\"; \"rollback --direct\" works without it.")
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(response)) => Ok(Some(response)),
        Ok(Err(e)) => Err(silent().source(e)),
        Err(_) => Err(silent()),
    }
}
