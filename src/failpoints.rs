//! Places where a test can pause or interrupt a run. With the feature `test-hooks` only: what users run has none.
//!
//! With `KONGFERRY_PAUSE_AT=PLACE` and `KONGFERRY_PAUSE_FILE=FILE` in the environment, the run that comes to PLACE
//! creates FILE and waits until FILE is deleted. Each place holds a process once. The places, in order:
//!
//! | place | what has been done |
//! | --- | --- |
//! | `inspected` | both sides were inspected; nothing is written yet, and the guard is not taken |
//! | `marking` | in an incremental run: the first page of blue is compared with the ledger |
//! | `loading` | the first page of rows is in the stage |
//! | `staged` | all rows are in the stage |
//! | `checked` | the stage is checked, rows that Kong's tables refuse are rejected |
//! | `writing` | the transaction that writes Kong's tables has begun |
//! | `applying` | all rows are in Kong's tables, but not committed |
//! | `applied` | committed; the stage still exists |
//!
//! With `KONGFERRY_PHASE_FILE=FILE` a run writes the last place that it has passed into FILE: `tests/soak/kills.sh` reads
//! there how far the run was that it killed.

#[cfg(feature = "test-hooks")]
pub(crate) use hooks::reached;

#[cfg(not(feature = "test-hooks"))]
pub(crate) fn reached(_place: &str) -> std::future::Ready<()> {
    std::future::ready(())
}

#[cfg(feature = "test-hooks")]
mod hooks {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    static IS_HELD: AtomicBool = AtomicBool::new(false);

    /// Waits here if a test asked for it.
    pub(crate) async fn reached(place: &str) {
        write_phase(place);
        let Some(file) = pause_file(place) else { return };
        if IS_HELD.swap(true, Ordering::Relaxed) || std::fs::write(&file, place).is_err() {
            return;
        }
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The place that was written last: it is reached again with every page of rows.
    static WRITTEN: Mutex<String> = Mutex::new(String::new());

    fn write_phase(place: &str) {
        let Some(file) = std::env::var_os("KONGFERRY_PHASE_FILE") else { return };
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        if *written != place {
            place.clone_into(&mut written);
            // Only the soak test reads it; the run does not fail because of it.
            let _ = std::fs::write(file, place);
        }
    }

    fn pause_file(place: &str) -> Option<PathBuf> {
        let is_here = std::env::var("KONGFERRY_PAUSE_AT").is_ok_and(|pause| pause == place);
        is_here.then(|| std::env::var_os("KONGFERRY_PAUSE_FILE").map(PathBuf::from)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    const HOOKS: &str = "test-hooks";

    fn manifest(text: &str) -> toml::Table {
        text.parse().expect("a manifest")
    }

    #[test]
    fn what_is_shipped_is_built_without_hooks() {
        let (package, harness) =
            (manifest(include_str!("../Cargo.toml")), manifest(include_str!("../tests/harness/Cargo.toml")));
        let features = package["features"].as_table().expect("features");
        assert!(features.contains_key(HOOKS));
        for (name, turned_on) in features {
            assert!(!turned_on.to_string().contains(HOOKS), "the feature {name} turns {HOOKS} on");
        }
        // `cargo build --workspace` builds the program with what its members' dependencies turn on.
        let dependency = harness["dependencies"]["kongferry"].as_table().expect("a table");
        assert!(!dependency.contains_key("features"), "{dependency}");
        assert!(!include_str!("../Makefile").contains(HOOKS));
    }

    /// The variables that control the hooks are read in modules that the feature turns on, and nowhere else.
    #[test]
    fn no_other_module_reads_a_hook() {
        let is_hook = |text: &str| {
            ["PAUSE_AT", "PAUSE_FILE", "PHASE_FILE", "FAULT"]
                .iter()
                .any(|name| text.contains(&format!("\"KONGFERRY_{name}\"")))
        };
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in
                std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
            {
                if entry.is_dir() {
                    folders.push(entry);
                } else if is_hook(&std::fs::read_to_string(&entry).expect("a source file")) {
                    found.push(entry.file_name().expect("a name").to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, ["failpoints.rs", "fault_injection.rs"]);
    }
}
