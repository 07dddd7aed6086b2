//! The socket by which another process controls a running engine: one JSON object each way.
//!
//! Every user who may write to the state directory may use it. A rollback does not need it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::engine::CommandRequest;
use super::state::OperatorCommand;
use super::status::StatusSnapshot;
use crate::error::{Error, Kind, Result};

/// How long an engine may take to answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest path of a unix socket, less a margin.
const PATH_LIMIT: usize = 100;

/// What is said to an engine.
#[derive(Debug, Serialize, Deserialize)]
struct ControlRequest {
    by: String,
    /// What shall be done; without it the engine only shows itself.
    command: Option<OperatorCommand>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ControlResponse {
    said: Option<std::result::Result<String, String>>,
    /// Named as before, so that a client and an engine of different versions understand each other.
    #[serde(rename = "shown")]
    status: Option<StatusSnapshot>,
}

/// Where the socket of a state directory is.
pub fn socket_path(dir: &Path) -> PathBuf {
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
    /// Listens; refuses where another engine does.
    pub async fn listen(
        dir: &Path,
        command_sender: mpsc::Sender<CommandRequest>,
        status: watch::Receiver<Option<StatusSnapshot>>,
    ) -> Result<Control> {
        let path = socket_path(dir);
        if let Ok(Some(running)) = query_status(dir).await {
            return Err(Error::refused(format!("{} is running this cutover on this machine", running.owner))
                .detail(running.sentence)
                .remedy(
                    "Control it with kongferry cutover status --watch, pause, resume, promote or rollback.",
                ));
        }
        // Left by a process that was killed.
        let _ = std::fs::remove_file(&path);
        let cannot = |e| Error::new(Kind::Io, format!("cannot listen at {}", path.display())).source(e);
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

    /// Lets the last answers go out, now that the engine has ended.
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
    let Ok(question) = serde_json::from_str::<ControlRequest>(&line) else { return };
    let said = match question.command {
        None => None,
        Some(command) => {
            let (answer, answered) = oneshot::channel();
            if command_sender.send((command, question.by, answer)).await.is_err() {
                return;
            }
            answered.await.ok()
        }
    };
    let answer = ControlResponse { said, status: status.borrow().clone() };
    if let Ok(mut text) = serde_json::to_vec(&answer) {
        text.push(b'\n');
        let _ = writer.write_all(&text).await;
    }
}

/// Where the engine of this directory stands; `None` where none runs.
pub async fn query_status(dir: &Path) -> Result<Option<StatusSnapshot>> {
    Ok(ask(dir, &ControlRequest { by: String::new(), command: None }).await?.and_then(|answer| answer.status))
}

/// Tells the engine of this directory something; `None` where none runs.
pub async fn send_command(
    dir: &Path,
    by: &str,
    command: OperatorCommand,
) -> Result<Option<std::result::Result<String, String>>> {
    Ok(ask(dir, &ControlRequest { by: by.to_owned(), command: Some(command) })
        .await?
        .and_then(|answer| answer.said))
}

async fn ask(dir: &Path, question: &ControlRequest) -> Result<Option<ControlResponse>> {
    let Ok(mut stream) = UnixStream::connect(socket_path(dir)).await else { return Ok(None) };
    let exchange = async {
        let mut text = serde_json::to_vec(question)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok::<ControlResponse, std::io::Error>(serde_json::from_str(&line)?)
    };
    // Before it is finished blue and green may be compared, which takes what it takes.
    let patient = matches!(question.command, Some(OperatorCommand::Finish { .. }));
    let silent = || Error::new(Kind::Io, "the cutover process on this machine does not answer");
    let patience = if patient { Duration::from_secs(86_400) } else { REPLY_TIMEOUT };
    match tokio::time::timeout(patience, exchange).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(e)) => Err(silent().source(e)),
        Err(_) => Err(silent()),
    }
}
