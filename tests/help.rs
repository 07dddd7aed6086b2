//! The help of every command: pinned word by word, with each option under its heading and each line short enough.

use std::process::Command;

/// Options that several commands share, by the heading under which every command lists them.
const SHARED: &[(&str, &[&str])] = &[
    ("Blue (Kong on Cassandra)", &["blue", "blue-kong-conf", "blue-options", "blue-password-file"]),
    (
        "Green (Kong on PostgreSQL)",
        &["green", "green-kong-conf", "green-password-file", "green-schema", "work-schema"],
    ),
    ("Tables", &["skip-table", "include-table", "schema-map", "baseline"]),
    ("General", &["config", "format", "log-format", "kong-env", "color", "verbose", "quiet"]),
];

/// Options of one command that are not under "Options".
const OWN: &[(&str, &str, &[&str])] = &[
    ("verify", "Partial comparison (not a proof)", &["table", "workspace", "sample"]),
    ("verify", "Repair", &["repair", "delete-extra", "yes", "green-online"]),
    ("cutover init", "Records", &["name", "zone", "name-server", "provider"]),
];

/// Options of `cutover init` itself; each other one is of a DNS provider, whose name is the heading.
const OF_INIT: &[&str] = &["file", "help"];

/// The program without this machine's settings.
fn program() -> Command {
    let mut program = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KONG") || name.starts_with("PG")) {
        program.env_remove(name);
    }
    program.env("NO_COLOR", "1");
    program
}

/// The long help of a command, as it is printed without a terminal.
fn help(command: &[&str]) -> String {
    let output = program().args(command).arg("--help").output().expect("the program");
    assert!(output.status.success(), "{command:?} --help ended with {}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The commands that a page lists, each with the lines of its description.
fn subcommands(page: &str) -> Vec<(String, Vec<String>)> {
    let lines = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        match line.strip_prefix("  ").and_then(|line| line.split_once(' ')) {
            Some((name, description)) if !name.is_empty() => {
                commands.push((name.to_owned(), vec![description.trim().to_owned()]));
            }
            _ => commands.last_mut().expect("a name before it").1.push(line.trim().to_owned()),
        }
    }
    commands.retain(|(name, _)| name != "help");
    commands
}

/// Every command with its page, the program itself first.
fn pages() -> Vec<(Vec<String>, String)> {
    fn add(command: &[&str], pages: &mut Vec<(Vec<String>, String)>) {
        let page = help(command);
        let below = subcommands(&page);
        pages.push((command.iter().map(|name| (*name).to_owned()).collect(), page));
        below.iter().for_each(|(name, _)| add(&[command, &[name.as_str()]].concat(), pages));
    }
    let mut pages = Vec::new();
    add(&[], &mut pages);
    assert!(pages.len() > 4, "the commands were not found in the help");
    pages
}

/// An option as a page lists it.
struct Listed {
    heading: String,
    long: String,
    /// The lines of the first paragraph about it.
    description: Vec<String>,
}

fn options(page: &str) -> Vec<Listed> {
    let mut heading = "";
    let mut options: Vec<Listed> = Vec::new();
    let mut in_first_paragraph = false;
    for line in page.lines() {
        let is_flag = line.starts_with("      --") || (line.starts_with("  -") && line.contains("--"));
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            heading = name;
        } else if is_flag {
            let long = line.split("--").nth(1).expect("a long name");
            let long = long.split([' ', '[', '=', '.']).next().expect("a name").to_owned();
            // Short help has the description on the same line where it fits.
            let description = line.trim().split_once("  ").map(|(_, text)| text.trim().to_owned());
            options.push(Listed {
                heading: heading.to_owned(),
                long,
                description: Vec::from_iter(description),
            });
            in_first_paragraph = true;
        } else if line.trim().is_empty() {
            in_first_paragraph = false;
        } else if let Some(option) = options.last_mut().filter(|_| in_first_paragraph) {
            option.description.push(line.trim().to_owned());
        }
    }
    options
}

/// The heading under which a command lists an option, if it is right.
fn is_under_its_heading(command: &str, option: &Listed) -> bool {
    let lists = |names: &[&str]| names.contains(&option.long.as_str());
    let shared = SHARED.iter().find(|(_, names)| lists(names)).map(|(heading, _)| *heading);
    let own =
        OWN.iter().find(|(of, _, names)| *of == command && lists(names)).map(|(_, heading, _)| *heading);
    match own.or(shared) {
        Some(heading) => option.heading == heading,
        None if command == "cutover init" && !lists(OF_INIT) => {
            let others = SHARED.iter().map(|(heading, _)| *heading).chain(["Options", "Records"]);
            others.into_iter().all(|heading| heading != option.heading)
        }
        None => option.heading == "Options",
    }
}

#[test]
fn the_help_of_every_command_is_pinned() {
    for (command, page) in pages() {
        let name = if command.is_empty() { "kongferry".to_owned() } else { command.join("-") };
        insta::assert_snapshot!(name, page);
    }
}

#[test]
fn every_option_is_under_its_heading() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (command, page) in pages() {
        let command = command.join(" ");
        for option in options(&page) {
            seen += 1;
            if !is_under_its_heading(&command, &option) {
                wrong.push(format!("{command} --{} is under \"{}\"", option.long, option.heading));
            }
        }
    }
    assert!(seen > 200, "only {seen} options were found in the help");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_line_of_short_help_is_wrapped_at_80_columns() {
    let mut wrong = Vec::new();
    for (command, _) in pages() {
        let output = program().args(&command).arg("-h").env("COLUMNS", "80").output().expect("the program");
        let page = String::from_utf8(output.stdout).expect("text");
        let options = options(&page).into_iter().map(|option| (option.long, option.description));
        for (name, description) in options.chain(subcommands(&page)) {
            let all = description.join(" ");
            // Default and possible values may follow on another line.
            let text = all.split(" [").next().unwrap_or_default();
            let fits = description.first().is_some_and(|line| line.starts_with(text));
            let begins = text.starts_with(|c: char| c.is_uppercase() || c.is_numeric());
            if !fits || !begins || text.ends_with('.') {
                wrong.push(format!("{} {name}: {description:?}", command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "one line, a capital first, no full stop last: {wrong:#?}");
}

#[test]
fn completions_of_every_shell_know_every_command() {
    let commands: Vec<Vec<String>> = pages().into_iter().map(|(command, _)| command).collect();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = program().args(["completions", shell]).output().expect("the program");
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        let script = String::from_utf8(output.stdout).expect("text");
        for name in commands.iter().filter_map(|command| command.last()) {
            assert!(script.contains(name.as_str()), "{name} is not in the script for {shell}");
        }
        assert!(script.contains("work-schema"), "no flags in the script for {shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_that_renders() {
    let folder = tempfile::tempdir().expect("a directory");
    let status = program().args(["man", "--out"]).arg(folder.path()).status().expect("the program");
    assert!(status.success(), "{status}");
    for (command, _) in pages() {
        let name = [&["kongferry".to_owned()], &command[..]].concat().join("-");
        let page = folder.path().join(format!("{name}.1"));
        let source = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(source.contains(".SH NAME") && source.contains(".SH SYNOPSIS"), "{source}");
        // Renders without a warning where there is a renderer.
        let rendered = Command::new("groff").args(["-man", "-ww", "-z"]).arg(&page).output();
        if let Ok(output) = rendered {
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && warnings.is_empty(), "{name}: {warnings}");
        }
    }
}
