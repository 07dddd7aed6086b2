//! A child process that cannot outlive us.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};

/// How long a dropped child may take to end before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// A running child process that receives a signal of our choice when this process ends, even by `kill -9`.
///
/// It is the leader of its own process group, so Ctrl-C in a terminal reaches us and not the child. It does not
/// follow grandchildren and does not look at the child's output.
#[derive(Debug)]
pub struct BoundChild {
    pid: Pid,
    end_signal: Signal,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    status: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoundChild {
    /// Starts `command`; `end_signal` is what it receives when we die, and on drop.
    pub fn spawn(mut command: Command, end_signal: Signal) -> io::Result<Self> {
        let parent = Pid::this();
        command.process_group(0);
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing. It runs after
        // Command has changed uid and gid, which matters: changing them clears the death signal.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(end_signal)?;
                // We may have died before the call above; then nobody would ever send the signal.
                if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
            });
        }
        let shared = Arc::new(Shared::default());
        let pid = spawn_on_own_thread(command, Arc::clone(&shared))?;
        Ok(BoundChild { pid, end_signal, shared })
    }

    /// The process id. After the child has ended it may belong to somebody else: use [`signal`](Self::signal).
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How the child ended, or `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.shared.status()
    }

    /// Sends a signal; does nothing when the child has ended, so a reused process id is never hit.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let status = self.shared.status();
        match *status {
            Some(_) => Ok(()),
            None => Ok(kill(self.pid, signal)?),
        }
    }

    /// Blocks until the child has ended, at most `limit` long.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut status = self.shared.status();
        while status.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            status = self.shared.ended.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *status
    }

    /// Sends `signal`, waits up to `limit`, then kills. Blocks.
    pub fn stop(&self, signal: Signal, limit: Duration) -> io::Result<()> {
        self.signal(signal)?;
        if self.wait(limit).is_none() {
            self.signal(Signal::SIGKILL)?;
            self.wait(limit);
        }
        Ok(())
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        if self.exited().is_none() {
            // A stopped (SIGSTOP) child would not see any other signal.
            let _ = self.signal(Signal::SIGCONT);
            let _ = self.stop(self.end_signal, DROP_GRACE);
        }
    }
}

/// Spawns from a thread that stays until the child has ended: the death signal is sent when the *thread* that
/// forked ends, so a worker thread of an async runtime must not be the one.
fn spawn_on_own_thread(mut command: Command, shared: Arc<Shared>) -> io::Result<Pid> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("bound-child".to_owned()).spawn(move || match command.spawn() {
        Ok(child) => {
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = sender.send(Ok(pid));
            reap(child, pid, &shared);
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that starts the process ended")))
}

/// Waits for the end without freeing the process id, then frees it under the lock that `signal` takes.
fn reap(mut child: Child, pid: Pid, shared: &Shared) {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut status = shared.status();
    *status = Some(child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0)));
    shared.ended.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn the_end_of_a_child_is_seen() {
        let child = BoundChild::spawn(Command::new("true"), Signal::SIGKILL).unwrap();
        assert!(child.wait(Duration::from_secs(10)).unwrap().success());
        child.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_child_that_cannot_start_is_an_error() {
        assert!(BoundChild::spawn(Command::new("/no/such/program"), Signal::SIGKILL).is_err());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let child =
            std::thread::spawn(|| BoundChild::spawn(sleeper(), Signal::SIGKILL).unwrap()).join().unwrap();
        assert!(child.wait(Duration::from_millis(200)).is_none());
    }

    #[test]
    fn a_dropped_child_is_gone_even_if_it_was_paused() {
        let child = BoundChild::spawn(sleeper(), Signal::SIGTERM).unwrap();
        let pid = Pid::from_raw(child.id());
        child.signal(Signal::SIGSTOP).unwrap();
        drop(child);
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }
}
