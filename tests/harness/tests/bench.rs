//! `make bench` in small: every step runs and a result is written. The measurements are not checked.

use std::process::Command;

fn every_step_runs(shape: &str) {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_kongferry-bench"));
    let output = bench.arg("--smoke").env("SHAPE", shape).output().expect("the bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    for line in ["scan", "copy", "naive", "migrate", "verify", "incremental"] {
        assert!(table.lines().any(|one| one.starts_with(line)), "no {line} in {table}");
    }
}

#[test]
fn the_bench_runs_every_step() {
    every_step_runs("consumers");
}

/// Rows of a shape that refer to other tables: those come first.
#[test]
#[ignore = "make soak runs every shape at full size"]
fn the_bench_runs_every_step_with_child_rows() {
    every_step_runs("plugins");
}
