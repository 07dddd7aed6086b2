//! A private directory for a server of ours, and the removal of those that a killed process left behind.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;
use uuid::Uuid;

/// The file whose lock says that the process that made the directory still lives.
const OWNER_FILE: &str = "owner.lock";

/// What the keeper does: it waits for the end of its input, which is ours to hold, and removes the directory, again if
/// need be while the server in it is still ending. It gives up after some seconds; then the next process sweeps.
const KEEPER: &str = r#"
read -r _
n=0
while [ -e "$1" ] && [ "$n" -lt 100 ]; do
    rm -rf -- "$1" 2>/dev/null && break
    n=$((n + 1))
    sleep 0.1
done
"#;

/// A directory that is removed on drop, and a moment after this process was killed.
///
/// It does not stop the server that works in it: that has to be done before, or happen by itself when we die.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    _owner: File,
    /// A shell that outlives us by a moment. Where there is none, the next process with the same prefix sweeps.
    keeper: Option<Child>,
}

impl WorkDir {
    /// Makes `PREFIX-UNIQUE` in the temporary directory and sweeps stale ones with that prefix.
    ///
    /// With `shared_path`, another user can walk through it to a directory that is his own, and the first of
    /// TMPDIR, /tmp and /var/tmp that he can reach is taken; without, only we can enter.
    pub fn create(prefix: &str, shared_path: bool) -> io::Result<Self> {
        let parent = parent_directory(shared_path);
        sweep(&parent, prefix);
        // Short, because a unix socket path inside must fit 107 bytes.
        let unique = Uuid::new_v4().simple().to_string();
        let path = parent.join(format!("{prefix}-{}", &unique[..12]));
        DirBuilder::new().mode(0o700).create(&path)?;
        let owner = lock_owner_file(&path)?;
        if shared_path {
            // `create` is subject to the umask, `set_permissions` is not.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        }
        let keeper = spawn_keeper(&path);
        Ok(WorkDir { path, _owner: owner, keeper })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        if let Some(mut keeper) = self.keeper.take() {
            // Waiting closes its input first.
            let _ = keeper.wait();
        }
    }
}

/// In a process group of its own: Ctrl-C on the terminal is for us.
fn spawn_keeper(dir: &Path) -> Option<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", KEEPER, "sh"]).arg(dir).current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Whether every user can walk to `path`: each directory on the way has the x bit for others.
pub(crate) fn reachable_by_others(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|dir| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

fn parent_directory(shared_path: bool) -> PathBuf {
    let given = std::env::temp_dir();
    if !shared_path || reachable_by_others(&given) {
        return given;
    }
    let usual = [Path::new("/tmp"), Path::new("/var/tmp")];
    usual.into_iter().find(|dir| reachable_by_others(dir)).map_or(given, Path::to_owned)
}

/// The file takes its name only when it is locked, so that a sweep in between does not see it as stale.
fn lock_owner_file(dir: &Path) -> io::Result<File> {
    let unnamed = dir.join("owner.new");
    let file = File::create(&unnamed)?;
    file.try_lock()?;
    fs::rename(&unnamed, dir.join(OWNER_FILE))?;
    Ok(file)
}

/// Removes what processes that were killed left behind. Failing to is no reason not to start.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-"))
            && entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if ours && is_stale(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_stale(dir: &Path) -> bool {
    File::open(dir.join(OWNER_FILE)).is_ok_and(|owner| owner.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix of its own for each test: they run side by side in one temporary directory.
    fn prefix(name: &str) -> String {
        format!("kongferry-test-{name}-{}", std::process::id())
    }

    #[test]
    fn a_directory_goes_with_its_owner() {
        let dir = WorkDir::create(&prefix("drop"), false).unwrap();
        let path = dir.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_directory_is_left_alone_and_a_stale_one_is_swept() {
        let prefix = prefix("sweep");
        let live = WorkDir::create(&prefix, true).unwrap();
        let stale = std::env::temp_dir().join(format!("{prefix}-stale"));
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(OWNER_FILE), "").unwrap();
        let unfinished = std::env::temp_dir().join(format!("{prefix}-unfinished"));
        fs::create_dir(&unfinished).unwrap();

        let other = WorkDir::create(&prefix, false).unwrap();
        assert!(live.path().exists() && other.path().exists() && unfinished.exists());
        assert!(!stale.exists());
        fs::remove_dir(unfinished).unwrap();
    }
}
