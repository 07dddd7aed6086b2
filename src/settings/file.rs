//! `kongferry.toml`: the flags of the command line, written down.
//!
//! Every key is the name of a flag without its dashes, so this file knows no key by itself: each one becomes the
//! default of the flag of that name, below the command line and the environment. A password does not belong there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

use crate::blue::config::BlueConfig;
use crate::error::{Error, Result};
use crate::green::config::GreenConfig;

/// The name of the file in the current directory.
pub const FILE_NAME: &str = "kongferry.toml";

/// The variable that names another file.
pub const VARIABLE: &str = "KONGFERRY_CONFIG";

/// Flags of which one source is taken as a whole: whichever is given on the command line, else in the environment,
/// else in the file. The variable is the one that belongs to the flag, or stands for it.
const ALTERNATIVES: &[&[(&str, Option<&str>)]] = &[
    &[("blue", Some("KONGFERRY_BLUE")), ("blue-kong-conf", None)],
    &[("green", Some("KONGFERRY_GREEN")), ("green-kong-conf", None)],
    &[("blue-password-file", None), ("", Some(crate::blue::config::PASSWORD_VARIABLE))],
    &[("green-password-file", None), ("", Some(crate::green::config::PASSWORD_VARIABLE))],
];

/// Flags that make no sense in the file.
const NOT_IN_FILE: &[&str] = &["config", "help", "version"];

/// The settings of one file.
#[derive(Debug, Clone, Default)]
pub struct File {
    origin: String,
    settings: BTreeMap<String, Setting>,
}

#[derive(Debug, Clone)]
struct Setting {
    values: Vec<String>,
    line: usize,
}

impl File {
    /// Reads the file that the arguments or the environment name, or `kongferry.toml` in `directory` if there is one.
    pub fn find(
        arguments: &[OsString],
        variable: &dyn Fn(&str) -> Option<String>,
        directory: &Path,
    ) -> Result<File> {
        let named = given(arguments, "config").or_else(|| variable(VARIABLE).map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None if directory.join(FILE_NAME).is_file() => directory.join(FILE_NAME),
            None => return Ok(File::default()),
        };
        let text = fs::read_to_string(&path).map_err(|e| {
            Error::usage(format!("cannot read the configuration file {}", path.display())).source(e)
        })?;
        File::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a file; `origin` names it in messages. No message repeats a value.
    pub fn parse(text: &str, origin: &str) -> Result<File> {
        let table = DeTable::parse(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_of(text, span.start));
            Error::usage(format!("{origin}, line {line}: {}", e.message()))
        })?;
        let mut settings = BTreeMap::new();
        for (key, value) in table.into_inner() {
            let line = line_of(text, key.span().start);
            let name = key.into_inner().into_owned();
            let values = flag_values(value.get_ref()).map_err(|found| {
                Error::usage(format!("{origin}, line {line}: \"{name}\": expected {EXPECTED}, found {found}"))
            })?;
            check_addresses(&name, &values).map_err(|e| {
                let remedy = e.remedy_text().unwrap_or_default().to_owned();
                Error::usage(format!("{origin}, line {line}: {}", e.message())).remedy(remedy)
            })?;
            settings.insert(name, Setting { values, line });
        }
        Ok(File { origin: origin.to_owned(), settings })
    }

    /// The command with the file's settings as defaults of its flags. A key that no subcommand has a flag for is an
    /// error, one that only another subcommand has is left alone.
    pub fn apply(
        &self,
        command: Command,
        arguments: &[OsString],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Command> {
        let mut known = BTreeSet::new();
        flags(&command, &mut known);
        for (key, setting) in &self.settings {
            if !known.contains(key) || NOT_IN_FILE.contains(&key.as_str()) {
                return Err(self.unknown(key, setting, &known));
            }
        }
        Ok(with_defaults(command, &self.settings, &overridden(arguments, variable)))
    }

    /// The error for a setting that clap refuses as a flag's value, which clap takes for one of the command line.
    pub fn explain_invalid_value(&self, error: &clap::Error, arguments: &[OsString]) -> Option<Error> {
        let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else {
            return None;
        };
        let flag = argument.strip_prefix("--")?.split([' ', '=']).next()?;
        let setting = self.settings.get(flag).filter(|_| !is_given(arguments, flag))?;
        let refused =
            Error::usage(format!("{}, line {}: invalid value for \"{flag}\"", self.origin, setting.line));
        Some(match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                refused.remedy(format!("Use one of {}.", values.join(", ")))
            }
            _ => refused,
        })
    }

    fn unknown(&self, key: &str, setting: &Setting, known: &BTreeSet<String>) -> Error {
        let error = Error::usage(format!("{}, line {}: unknown key \"{key}\"", self.origin, setting.line));
        if key.contains("password") {
            return error
                .remedy("Set blue-password-file or green-password-file: the configuration file contains no passwords.");
        }
        let names: Vec<&str> =
            known.iter().map(String::as_str).filter(|name| !NOT_IN_FILE.contains(name)).collect();
        error.remedy(format!("Use one of the keys {}.", names.join(", ")))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

const EXPECTED: &str = "a string, a decimal integer, a boolean or an array of strings";

/// The value as the command line would have it, or the type that no flag takes.
fn flag_values(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Integer(number) if number.radix() == 10 => Ok(vec![number.as_str().to_owned()]),
        DeValue::Boolean(flag) => Ok(vec![flag.to_string()]),
        DeValue::Array(entries) => entries
            .iter()
            .map(|entry| match entry.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("an array with {}", type_name(other))),
            })
            .collect(),
        _ => Err(type_name(value)),
    }
}

fn type_name(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// Reads the addresses at once, so that what is wrong with one is told with its line. Blue's parser refuses a password
/// anyway; green's takes one, for the sake of the command line.
fn check_addresses(key: &str, values: &[String]) -> Result<()> {
    for address in values {
        match key {
            "blue" => drop(BlueConfig::parse(address)?),
            "green" if GreenConfig::parse(address)?.password_in_address() => {
                return Err(Error::usage("the address of green contains a password").remedy(
                    "Remove it and set green-password-file: the configuration file contains no passwords.",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The long names of all flags of a command and its subcommands.
fn flags(command: &Command, names: &mut BTreeSet<String>) {
    names.extend(command.get_arguments().filter_map(Arg::get_long).map(str::to_owned));
    command.get_subcommands().for_each(|sub| flags(sub, names));
}

fn with_defaults(command: Command, settings: &BTreeMap<String, Setting>, overridden: &Overridden) -> Command {
    let command = command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else {
            return arg;
        };
        let arg = if overridden.variables.contains(&long) { arg.env(Resettable::Reset) } else { arg };
        match settings.get(&long) {
            Some(setting) if !overridden.settings.contains(&long) => {
                // Whoever reads --help wants the program's defaults, not this file's.
                let hidden = arg.get_action().takes_values();
                arg.default_values(setting.values.clone()).required(false).hide_default_value(hidden)
            }
            _ => arg,
        }
    });
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| with_defaults(sub, settings, overridden))
    })
}

/// Flags whose setting, or whose variable, is overridden by an alternative from a better source.
#[derive(Default)]
struct Overridden {
    settings: BTreeSet<String>,
    variables: BTreeSet<String>,
}

fn overridden(arguments: &[OsString], variable: &dyn Fn(&str) -> Option<String>) -> Overridden {
    let mut overridden = Overridden::default();
    for group in ALTERNATIVES {
        let on_command_line = group.iter().any(|(flag, _)| is_given(arguments, flag));
        let in_environment = group
            .iter()
            .filter_map(|(_, name)| *name)
            .any(|name| variable(name).is_some_and(|text| !text.is_empty()));
        for (flag, _) in *group {
            if on_command_line {
                overridden.variables.insert((*flag).to_owned());
            }
            if on_command_line || in_environment {
                overridden.settings.insert((*flag).to_owned());
            }
        }
        // The variable of a flag that is itself on the command line loses to it anyway.
    }
    overridden
}

fn is_given(arguments: &[OsString], flag: &str) -> bool {
    !flag.is_empty() && given(arguments, flag).is_some()
}

/// The value of a flag on the command line, found before the command line is parsed. An empty path where the flag
/// stands last, without a value.
fn given(arguments: &[OsString], flag: &str) -> Option<PathBuf> {
    let wanted = format!("--{flag}");
    let mut arguments =
        arguments.iter().skip(1).take_while(|argument| argument.as_os_str() != OsStr::new("--"));
    while let Some(argument) = arguments.next() {
        if argument.as_os_str() == OsStr::new(&wanted) {
            return Some(arguments.next().map(PathBuf::from).unwrap_or_default());
        }
        let inline = argument.to_str().and_then(|text| text.strip_prefix(&wanted)?.strip_prefix('='));
        if let Some(value) = inline {
            return Some(PathBuf::from(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::{Args, Parser, Subcommand};

    use super::*;
    use crate::cli::args::{BlueArgs, CommonArgs, Format, GreenArgs};
    use crate::error::Kind;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, Subcommand)]
    enum Sub {
        Move(Box<Move>),
        Other(Other),
    }

    #[derive(Debug, Args)]
    struct Move {
        #[command(flatten)]
        blue: BlueArgs,
        #[command(flatten)]
        green: GreenArgs,
        #[command(flatten)]
        common: CommonArgs,
        #[arg(long)]
        yes: bool,
        #[arg(long)]
        schema_map: Vec<String>,
        #[arg(long, required = true)]
        rejects_file: String,
    }

    #[derive(Debug, Args)]
    struct Other {
        #[arg(long)]
        elsewhere: Option<String>,
    }

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parsed(file: &str, line: &str, variables: &[(&str, &str)]) -> Move {
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let arguments = arguments(line);
        let file = File::parse(file, "kongferry.toml").expect("a good file");
        let command = file.apply(Cli::command_for_test(), &arguments, &lookup).expect("known keys");
        let matches = command.try_get_matches_from(&arguments).expect("a good command line");
        match <Cli as clap::FromArgMatches>::from_arg_matches(&matches).expect("complete").command {
            Sub::Move(args) => *args,
            Sub::Other(_) => panic!("not asked for"),
        }
    }

    impl Cli {
        fn command_for_test() -> Command {
            <Cli as clap::CommandFactory>::command()
        }
    }

    fn refused(file: &str) -> String {
        let result = File::parse(file, "kongferry.toml")
            .and_then(|file| file.apply(Cli::command_for_test(), &arguments("x move"), &|_| None));
        let error = result.expect_err(file);
        assert_eq!(error.kind(), Kind::Usage);
        format!("{}\n{}", error.message(), error.remedy_text().unwrap_or_default())
    }

    const REST: &str = "rejects-file = \"r\"\n";

    #[test]
    fn keys_are_flags_of_any_sort() {
        let args = parsed(
            "blue = \"cassandra://db1/kong\"\nyes = true\nschema-map = [\"a\", \"b\"]\nformat = \"json\"\nrejects-file = \"r\"",
            "x move",
            &[],
        );
        assert_eq!(args.blue.blue.as_deref(), Some("cassandra://db1/kong"));
        assert!(args.yes);
        assert_eq!(args.schema_map, ["a", "b"]);
        assert_eq!(args.common.format, Format::Json);
        assert_eq!(args.rejects_file, "r");
    }

    #[test]
    fn the_command_line_stands_over_the_file() {
        let file = format!("green-schema = \"a\"\nschema-map = [\"a\"]\n{REST}");
        let args = parsed(&file, "x move --green-schema b --schema-map c", &[]);
        assert_eq!(args.green.green_schema.as_deref(), Some("b"));
        assert_eq!(args.schema_map, ["c"]);
    }

    #[test]
    fn one_of_two_sources_is_taken_whole_from_the_best_place() {
        let file = format!("blue = \"cassandra://db1/kong\"\n{REST}");
        let args = parsed(&file, "x move --blue-kong-conf=/etc/kong.conf", &[]);
        assert_eq!(args.blue.blue, None);
        assert_eq!(args.blue.blue_kong_conf.as_deref(), Some(Path::new("/etc/kong.conf")));
        let file = format!("blue-kong-conf = \"/etc/kong.conf\"\nblue-password-file = \"p\"\n{REST}");
        let variables = [("KONGFERRY_BLUE", "cassandra://db2/kong"), ("KONGFERRY_BLUE_PASSWORD", "x")];
        let args = parsed(&file, "x move", &variables);
        assert_eq!(args.blue.blue_kong_conf, None);
        assert_eq!(args.blue.blue_password_file, None);
        let args = parsed(&file, "x move --blue-password-file q", &variables);
        assert_eq!(args.blue.blue_password_file.as_deref(), Some(Path::new("q")));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_without_its_value() {
        let text = refused("\n# comment\nblu = \"s3cr3t\"");
        assert!(text.contains("kongferry.toml, line 3: unknown key \"blu\""), "{text}");
        assert!(text.contains("blue-kong-conf") && !text.contains("s3cr3t"), "{text}");
        let text = refused("blue-password = \"s3cr3t\"");
        assert!(text.contains("blue-password-file") && !text.contains("s3cr3t"), "{text}");
        assert!(refused("config = \"x\"").contains("unknown key"));
    }

    #[test]
    fn passwords_and_broken_addresses_are_refused_with_their_line() {
        for file in
            ["\ngreen = \"postgres://k:s3cr3t@db1/kong\"", "\nblue = \"cassandra://k:s3cr3t@db1/kong\""]
        {
            let text = refused(file);
            assert!(
                text.contains("line 2") && text.contains("password") && !text.contains("s3cr3t"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_with_its_line() {
        let text = refused("yes = true\nblue = s3cr3t\n");
        assert!(text.contains("line 2") && !text.contains("s3cr3t"), "{text}");
        assert!(
            refused("yes = 1.5").contains(&format!("line 1: \"yes\": expected {EXPECTED}, found a float"))
        );
        assert!(refused("yes = [1]").contains("found an array with an integer"));
        assert!(refused("[blue]\nx = 1").contains("\"blue\": expected a string"));
    }

    #[test]
    fn a_value_that_the_flag_does_not_take_is_told_with_its_line() {
        let file = File::parse("\nformat = \"xml\"", "kongferry.toml").expect("a good file");
        let line = arguments("x move --rejects-file r");
        let command = file.apply(Cli::command_for_test(), &line, &|_| None).expect("known keys");
        let error = command.try_get_matches_from(&line).expect_err("not a form");
        let error = file.explain_invalid_value(&error, &line).expect("the file's fault");
        assert_eq!(error.message(), "kongferry.toml, line 2: invalid value for \"format\"");
        assert_eq!(error.remedy_text(), Some("Use one of text, json."));
    }

    #[test]
    fn a_key_of_another_command_is_left_alone() {
        let args = parsed(&format!("elsewhere = \"x\"\n{REST}"), "x move", &[]);
        assert_eq!(args.rejects_file, "r");
    }

    #[test]
    fn the_file_is_found_by_flag_by_variable_and_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = File::find(&arguments("x move"), &|_| None, folder.path()).expect("no file is fine");
        assert!(none.settings.is_empty());
        fs::write(folder.path().join(FILE_NAME), "yes = true").expect("written");
        let by_name = File::find(&arguments("x move"), &|_| None, folder.path()).expect("found");
        assert!(by_name.settings.contains_key("yes"));
        let missing = arguments("x move --config /nowhere.toml");
        assert!(File::find(&missing, &|_| None, folder.path()).is_err());
        let variable = |name: &str| (name == VARIABLE).then(|| "/nowhere.toml".to_owned());
        assert!(File::find(&arguments("x move"), &variable, folder.path()).is_err());
    }
}
