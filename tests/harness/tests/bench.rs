//! `make bench` in small: it runs every step and leaves a result. What it measures is not looked at.

use std::process::Command;

#[test]
fn the_bench_runs_every_step() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_kongferry-bench")).arg("--smoke").output().expect("the bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    for line in ["scan", "copy", "naive", "migrate", "verify", "incremental"] {
        assert!(table.lines().any(|one| one.starts_with(line)), "no {line} in {table}");
    }
}
