//! The flags that say where blue and green are, and what they come to.
//!
//! [`parse`] reads the command line with the configuration file and the environment below it; `resolve` turns the
//! flags of one side into a configuration that is whole and valid. Neither connects.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, ValueEnum};
use secrecy::SecretString;

use crate::blue::config::{self as blue, BlueConfig};
use crate::error::{Error, Result};
use crate::green::config::{self as green, DEFAULT_WORK_SCHEMA, GreenConfig};
use crate::settings::file::File;
use crate::settings::kong_conf::{KongConf, Side};
use crate::settings::password;

/// Where blue is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Blue: Kong on Cassandra")]
pub struct BlueArgs {
    /// cassandra://user@host,host/keyspace?options
    ///
    /// Options: dc, consistency (all), tls (off, require, verify, verify-ca), tls_ca, tls_cert, tls_key,
    /// connect_timeout, request_timeout, page_size. The password comes from KONGFERRY_BLUE_PASSWORD, a file or a
    /// prompt. Env: KONGFERRY_BLUE.
    #[arg(long, value_name = "URL", env = "KONGFERRY_BLUE", hide_env = true)]
    pub blue: Option<String>,

    /// Read Kong's configuration instead
    #[arg(long, value_name = "FILE")]
    pub blue_kong_conf: Option<PathBuf>,

    /// Options of the URL, laid over the above
    ///
    /// For example consistency=quorum&tls=require.
    #[arg(long, value_name = "OPTIONS")]
    pub blue_options: Option<String>,

    /// File with the password
    ///
    /// Without it: KONGFERRY_BLUE_PASSWORD, or a prompt.
    #[arg(long, value_name = "FILE")]
    pub blue_password_file: Option<PathBuf>,
}

/// Where green is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Green: Kong on PostgreSQL")]
pub struct GreenArgs {
    /// postgres://user@host:5432/database?options
    ///
    /// As libpq reads it, with PGHOST, PGPASSWORD, ~/.pgpass, sslmode and so on. Env: KONGFERRY_GREEN.
    #[arg(long, value_name = "URL", env = "KONGFERRY_GREEN", hide_env = true, hide_env_values = true)]
    pub green: Option<String>,

    /// Read Kong's configuration instead
    #[arg(long, value_name = "FILE")]
    pub green_kong_conf: Option<PathBuf>,

    /// File with the password
    ///
    /// Without it: KONGFERRY_GREEN_PASSWORD, PGPASSWORD, or ~/.pgpass.
    #[arg(long, value_name = "FILE")]
    pub green_password_file: Option<PathBuf>,

    /// Kong's schema (pg_schema) [default: public]
    #[arg(long, value_name = "NAME")]
    pub green_schema: Option<String>,

    /// Schema of our tables [default: kongferry]
    #[arg(long, value_name = "NAME")]
    pub work_schema: Option<String>,
}

/// What every command understands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "General")]
pub struct CommonArgs {
    /// Configuration file [default: kongferry.toml]
    ///
    /// Its keys are the names of the flags. Env: KONGFERRY_CONFIG.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Form of the result on stdout
    #[arg(long, value_enum, default_value_t, value_name = "text|json", hide_possible_values = true)]
    pub format: Format,

    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t, value_name = "text|json", hide_possible_values = true)]
    pub log_format: Format,

    /// Let KONG_* variables speak for one side
    ///
    /// They stand over that side's Kong configuration, or take its place where there is no file.
    #[arg(long, value_enum, value_name = "blue|green", hide_possible_values = true)]
    pub kong_env: Option<Side>,

    /// Colours
    #[arg(long, value_enum, default_value_t, value_name = "auto|always|never", hide_possible_values = true)]
    pub color: Color,

    /// Say more (twice: much more)
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Makes it the choice of all output that goes through `anstream`.
    pub fn apply(self) {
        let choice = match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Why there is no command to run.
#[derive(Debug)]
pub enum Stop {
    /// The parser has something to print: an error, or the help that was asked for. It knows the exit code.
    Clap(clap::Error),
    /// The configuration file cannot be used.
    File(Error),
}

/// Parses the command line, with the environment below it and the configuration file below that.
pub fn parse<T: CommandFactory + FromArgMatches>(arguments: Vec<OsString>) -> Result<T, Stop> {
    let variable = |name: &str| std::env::var(name).ok();
    let file = File::find(&arguments, &variable, Path::new("")).map_err(Stop::File)?;
    let command = file.apply(T::command(), &arguments, &variable).map_err(Stop::File)?;
    let matches = command
        .try_get_matches_from(&arguments)
        .map_err(|error| file.blame(&error, &arguments).map_or(Stop::Clap(error), Stop::File))?;
    T::from_arg_matches(&matches).map_err(|error| Stop::Clap(error.format(&mut T::command())))
}

/// What the resolution takes from the process, so that tests can put something else there.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    arguments: &'a [String],
    /// Asks for a password; none where nobody can be asked.
    prompt: &'a dyn Fn(&str) -> Result<Option<SecretString>>,
}

fn surrounded<T>(run: impl FnOnce(&Surroundings<'_>) -> Result<T>) -> Result<T> {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    run(&Surroundings { variable: &|name| std::env::var(name).ok(), arguments: &arguments, prompt: &prompt })
}

fn prompt(question: &str) -> Result<Option<SecretString>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let typed = rpassword::prompt_password(question)
        .map_err(|e| Error::usage("cannot ask for a password on this terminal").source(e))?;
    Ok(Some(typed).filter(|text| !text.is_empty()).map(SecretString::from))
}

/// A configuration with what should be said about it before it is used.
struct Resolved<T> {
    config: T,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl<T> Resolved<T> {
    fn log(self) -> T {
        // Notes too are for everybody: what Kong's configuration says and we do not follow must not go unseen.
        for text in self.warnings.iter().chain(&self.notes) {
            tracing::warn!("{text}.");
        }
        self.config
    }
}

impl BlueArgs {
    /// Whether anything says where blue is; some commands can do without.
    pub fn is_given(&self, common: &CommonArgs) -> bool {
        self.blue.is_some() || self.blue_kong_conf.is_some() || common.kong_env == Some(Side::Blue)
    }

    /// Where blue is, complete. Logs warnings and may ask for a password; does not connect.
    pub fn resolve(&self, common: &CommonArgs) -> Result<BlueConfig> {
        surrounded(|around| self.resolve_in(common, around)).map(Resolved::log)
    }

    fn resolve_in(&self, common: &CommonArgs, around: &Surroundings<'_>) -> Result<Resolved<BlueConfig>> {
        let mut resolved = self.source(common, around)?;
        if let Some(options) = &self.blue_options {
            resolved.config.set_options(options)?;
        }
        if let Some(password) = self.password(around, &mut resolved.warnings)? {
            resolved.config.password = Some(password);
        } else if self.blue.is_some() && resolved.config.password.is_none() {
            // Kong's own default names a user even where the server asks for none: only a user that somebody wrote
            // into the address is a reason to ask.
            if let Some(user) = &resolved.config.username {
                resolved.config.password = (around.prompt)(&format!("Password of {user} on blue: "))?;
            }
        }
        Ok(resolved)
    }

    fn source(&self, common: &CommonArgs, around: &Surroundings<'_>) -> Result<Resolved<BlueConfig>> {
        let variables = common.kong_env == Some(Side::Blue);
        match (&self.blue, kong_conf(self.blue_kong_conf.as_deref(), variables, around)?) {
            (Some(_), Some(_)) => Err(twice("blue")),
            (Some(address), None) => {
                Ok(Resolved { config: BlueConfig::parse(address)?, warnings: Vec::new(), notes: Vec::new() })
            }
            (None, Some(conf)) => {
                let read = conf.blue()?;
                Ok(Resolved { config: read.config, warnings: Vec::new(), notes: read.notes })
            }
            (None, None) => Err(Error::usage("it is not said where blue is").remedy(
                "Give --blue cassandra://user@host/keyspace or --blue-kong-conf kong.conf, or set KONGFERRY_BLUE.",
            )),
        }
    }

    fn password(
        &self,
        around: &Surroundings<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<SecretString>> {
        password_of(self.blue_password_file.as_deref(), blue::PASSWORD_VARIABLE, around, warnings)
    }
}

impl GreenArgs {
    /// Whether anything says where green is; some commands can do without.
    pub fn is_given(&self, common: &CommonArgs) -> bool {
        self.green.is_some() || self.green_kong_conf.is_some() || common.kong_env == Some(Side::Green)
    }

    /// Where green is, complete. Logs warnings; does not connect.
    pub fn resolve(&self, common: &CommonArgs) -> Result<GreenConfig> {
        surrounded(|around| self.resolve_in(common, around)).map(Resolved::log)
    }

    fn resolve_in(&self, common: &CommonArgs, around: &Surroundings<'_>) -> Result<Resolved<GreenConfig>> {
        let mut resolved = self.source(common, around)?;
        let config = resolved.config;
        let kong = self.green_schema.clone().unwrap_or_else(|| config.kong_schema().to_owned());
        let work = self.work_schema.as_deref().unwrap_or(DEFAULT_WORK_SCHEMA);
        resolved.config = config.with_schemas(&kong, work)?;
        let file = self.green_password_file.as_deref();
        if let Some(password) = password_of(file, green::PASSWORD_VARIABLE, around, &mut resolved.warnings)? {
            resolved.config = resolved.config.with_password(&password);
        }
        Ok(resolved)
    }

    fn source(&self, common: &CommonArgs, around: &Surroundings<'_>) -> Result<Resolved<GreenConfig>> {
        let variables = common.kong_env == Some(Side::Green);
        match (&self.green, kong_conf(self.green_kong_conf.as_deref(), variables, around)?) {
            (Some(_), Some(_)) => Err(twice("green")),
            (Some(address), None) => {
                let config = GreenConfig::parse(address)?;
                let mut warnings = config.warnings().to_vec();
                let in_process_list = around.arguments.iter().any(|argument| argument.contains(address.as_str()));
                if config.password_in_address() && in_process_list {
                    warnings.push(format!(
                        "The password in --green can be read by every user of this machine in the process list; set {} instead",
                        green::PASSWORD_VARIABLE
                    ));
                }
                Ok(Resolved { config, warnings, notes: Vec::new() })
            }
            (None, Some(conf)) => {
                let read = conf.green()?;
                Ok(Resolved { config: read.config, warnings: Vec::new(), notes: read.notes })
            }
            (None, None) => Err(Error::usage("it is not said where green is").remedy(
                "Give --green postgres://user@host/database or --green-kong-conf kong.conf, or set KONGFERRY_GREEN.",
            )),
        }
    }
}

fn kong_conf(file: Option<&Path>, variables: bool, around: &Surroundings<'_>) -> Result<Option<KongConf>> {
    let conf = match file {
        Some(file) => KongConf::from_file(file)?,
        None if variables => KongConf::empty(),
        None => return Ok(None),
    };
    Ok(Some(if variables { conf.with_environment(around.variable) } else { conf }))
}

fn twice(side: &str) -> Error {
    Error::usage(format!("it is said twice where {side} is")).remedy(format!(
        "Give either --{side} or Kong's configuration (--{side}-kong-conf, --kong-env {side})."
    ))
}

fn password_of(
    file: Option<&Path>,
    variable: &str,
    around: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<SecretString>> {
    let Some(file) = file else {
        return Ok((around.variable)(variable).filter(|text| !text.is_empty()).map(SecretString::from));
    };
    let (password, warning) = password::from_file(file)?;
    warnings.extend(warning);
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn around<'a>(variable: &'a dyn Fn(&str) -> Option<String>, arguments: &'a [String]) -> Surroundings<'a> {
        Surroundings { variable, arguments, prompt: &|_| Ok(Some("typed".into())) }
    }

    fn blue(
        args: &BlueArgs,
        common: &CommonArgs,
        variables: &[(&str, &str)],
    ) -> Result<Resolved<BlueConfig>> {
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        args.resolve_in(common, &around(&lookup, &[]))
    }

    fn green(
        args: &GreenArgs,
        common: &CommonArgs,
        variables: &[(&str, &str)],
    ) -> Result<Resolved<GreenConfig>> {
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let arguments =
            ["kongferry".to_owned(), format!("--green={}", args.green.clone().unwrap_or_default())];
        args.resolve_in(common, &around(&lookup, &arguments))
    }

    fn at(address: &str) -> BlueArgs {
        BlueArgs { blue: Some(address.to_owned()), ..BlueArgs::default() }
    }

    fn green_at(address: &str) -> GreenArgs {
        GreenArgs { green: Some(address.to_owned()), ..GreenArgs::default() }
    }

    fn password(config: &BlueConfig) -> Option<String> {
        config.password.as_ref().map(|password| password.expose_secret().to_owned())
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn a_user_without_a_password_is_asked_for_it() {
        let common = CommonArgs::default();
        let asked = blue(&at("cassandra://kong@db1/kong"), &common, &[]).expect("complete");
        assert_eq!(password(&asked.config).as_deref(), Some("typed"));
        let not_asked = blue(&at("cassandra://db1/kong"), &common, &[]).expect("complete");
        assert_eq!(password(&not_asked.config), None);
    }

    #[test]
    fn the_password_file_goes_before_the_variable_and_both_before_the_prompt() {
        let common = CommonArgs::default();
        let variables = [("KONGFERRY_BLUE_PASSWORD", "from-variable")];
        let mut args = at("cassandra://kong@db1/kong");
        let resolved = blue(&args, &common, &variables).expect("complete");
        assert_eq!(password(&resolved.config).as_deref(), Some("from-variable"));
        let file = written("from-file\n");
        args.blue_password_file = Some(file.path().to_owned());
        let resolved = blue(&args, &common, &variables).expect("complete");
        assert_eq!(password(&resolved.config).as_deref(), Some("from-file"));
    }

    #[test]
    fn options_are_laid_over_kongs_configuration() {
        let file = written("database = cassandra\ncassandra_ssl = on\ncassandra_local_datacenter = dc1\n");
        let args = BlueArgs {
            blue_kong_conf: Some(file.path().to_owned()),
            blue_options: Some("consistency=quorum&page_size=7".to_owned()),
            ..BlueArgs::default()
        };
        let config = blue(&args, &CommonArgs::default(), &[]).expect("complete").config;
        assert_eq!(config.consistency, blue::ReadConsistency::Quorum);
        assert_eq!(config.page_size, 7);
        assert_eq!(config.tls.mode, blue::TlsMode::Require);
        assert_eq!(config.datacenter.as_deref(), Some("dc1"));
        assert_eq!(password(&config), None, "Kong's default user is no reason to ask");
    }

    #[test]
    fn kongs_variables_speak_for_one_side_only() {
        let common = CommonArgs { kong_env: Some(Side::Blue), ..CommonArgs::default() };
        let variables = [
            ("KONG_DATABASE", "cassandra"),
            ("KONG_CASSANDRA_CONTACT_POINTS", "db7"),
            ("KONG_PG_HOST", "db8"),
        ];
        let config = blue(&BlueArgs::default(), &common, &variables).expect("complete").config;
        assert_eq!(config.hosts(), "db7:9042");
        let file = written("pg_host = db9\n");
        let args = GreenArgs { green_kong_conf: Some(file.path().to_owned()), ..GreenArgs::default() };
        assert_eq!(green(&args, &common, &variables).expect("complete").config.address(), "db9:5432");
        assert!(!GreenArgs::default().is_given(&common));
    }

    #[test]
    fn nothing_and_twice_are_usage_errors() {
        let common = CommonArgs::default();
        let message = |result: Result<Resolved<BlueConfig>>| result.err().map(|e| e.message().to_owned());
        assert_eq!(
            message(blue(&BlueArgs::default(), &common, &[])).as_deref(),
            Some("it is not said where blue is")
        );
        let with_variables = CommonArgs { kong_env: Some(Side::Blue), ..CommonArgs::default() };
        let twice = blue(&at("cassandra://db1/kong"), &with_variables, &[]);
        assert_eq!(message(twice).as_deref(), Some("it is said twice where blue is"));
        assert!(green(&GreenArgs::default(), &common, &[]).is_err());
    }

    #[test]
    fn a_password_on_the_command_line_of_green_is_warned_about_and_not_shown() {
        let common = CommonArgs::default();
        let resolved = green(&green_at("postgres://k:s3cr3t@db1/kong"), &common, &[]).expect("accepted");
        assert_eq!(resolved.warnings.len(), 1);
        assert!(
            resolved.warnings.iter().all(|text| text.contains("process list") && !text.contains("s3cr3t"))
        );
        assert!(green(&green_at("postgres://k@db1/kong"), &common, &[]).expect("fine").warnings.is_empty());
    }

    #[test]
    fn flags_name_the_schemas_over_kongs_configuration() {
        let file = written("pg_schema = one\n");
        let mut args = GreenArgs { green_kong_conf: Some(file.path().to_owned()), ..GreenArgs::default() };
        let common = CommonArgs::default();
        assert_eq!(green(&args, &common, &[]).expect("complete").config.kong_schema(), "one");
        args.green_schema = Some("two".to_owned());
        args.work_schema = Some("mine".to_owned());
        let config = green(&args, &common, &[]).expect("complete").config;
        assert_eq!((config.kong_schema(), config.work_schema()), ("two", "mine"));
        args.work_schema = Some("two".to_owned());
        assert!(green(&args, &common, &[]).is_err());
    }

    #[test]
    fn the_flags_are_consistent_and_their_short_help_fits_a_line() {
        #[derive(clap::Parser)]
        struct All {
            #[command(flatten)]
            _blue: BlueArgs,
            #[command(flatten)]
            _green: GreenArgs,
            #[command(flatten)]
            _common: CommonArgs,
        }
        let mut command = All::command().term_width(200);
        command.clone().debug_assert();
        for line in command.render_help().to_string().lines() {
            assert!(line.chars().count() <= 79, "{line}");
        }
    }
}
