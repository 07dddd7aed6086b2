//! Connecting to real servers, correctly and incorrectly: each bad input is reported by its cause, with
//! a remedy, the right exit code, and no secret.

mod blue;
mod command;
mod cutover_secrets;
mod green;
mod loopback_proxy;
mod pgbouncer;
mod pooler;
mod secrets;

use kongferry::error::Error;

/// Everything a user would see of an error.
fn text(error: &Error) -> String {
    let mut lines = vec![error.message().to_owned()];
    lines.extend(error.details().iter().cloned());
    lines.extend(error.causes());
    lines.extend(error.remedy_text().map(str::to_owned));
    lines.join("\n")
}

/// Checks that the text has all of `wanted`.
#[track_caller]
fn assert_tells(error: &Error, wanted: &[&str]) {
    let text = text(error);
    for part in wanted {
        assert!(text.contains(part), "\"{part}\" is missing in:\n{text}");
    }
    assert!(error.remedy_text().is_some_and(|remedy| remedy.ends_with('.')), "no remedy in:\n{text}");
}

/// A file that lives as long as the test.
fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("written");
    file
}

/// A free port on which nothing listens.
fn closed_port() -> u16 {
    kongferry_harness::ports::free().expect("a port")
}
