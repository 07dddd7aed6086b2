//! The help of every command, pinned: it is the first thing that a new user reads, and scripts are written from it.

use std::process::Command;

/// The long help of a command, as it is printed where there is no terminal.
fn help(command: &[&str]) -> String {
    let mut program = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KONG") || name.starts_with("PG")) {
        program.env_remove(name);
    }
    let output = program.args(command).arg("--help").env("NO_COLOR", "1").output().expect("the program");
    assert!(output.status.success(), "{command:?} --help ended with {}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The commands that a help page lists.
fn listed(page: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let named = lines.take_while(|line| !line.is_empty());
    let first = named.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    first.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

/// Pins the help of a command and of all commands below it.
fn pin(command: &[&str]) -> usize {
    let page = help(command);
    let name = if command.is_empty() { "kongferry".to_owned() } else { command.join("-") };
    insta::assert_snapshot!(name, page);
    let below = listed(&page);
    1 + below.iter().map(|one| pin(&[command, &[one.as_str()]].concat())).sum::<usize>()
}

#[test]
fn every_command_explains_itself_as_it_did() {
    assert!(pin(&[]) > 4, "the commands were not found in the help");
}
