//! From the flags of one side to a configuration that is complete and valid. Nothing here connects.

use std::io::IsTerminal;
use std::path::Path;

use secrecy::SecretString;

use super::args::{BlueArgs, CommonArgs, GreenArgs};
use crate::blue::config::{self as blue, BlueConfig};
use crate::error::{Error, Result};
use crate::green::config::{self as green, DEFAULT_WORK_SCHEMA, GreenConfig};
use crate::settings::kong_conf::{DatabaseSide, KongConf};
use crate::settings::password;

/// The `application_name` of this process's sessions on green.
pub(crate) fn application_name() -> String {
    format!("kongferry {}", std::process::id())
}

/// What comes from the process; tests replace it.
struct ProcessInputs<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    arguments: &'a [String],
    /// Asks for a password; `None` without a terminal.
    prompt: &'a dyn Fn(&str) -> Result<Option<SecretString>>,
}

fn with_process_inputs<T>(resolve: impl FnOnce(&ProcessInputs<'_>) -> Result<T>) -> Result<T> {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    resolve(&ProcessInputs {
        variable: &|name| std::env::var(name).ok(),
        arguments: &arguments,
        prompt: &prompt,
    })
}

fn prompt(question: &str) -> Result<Option<SecretString>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let typed = rpassword::prompt_password(question)
        .map_err(|e| Error::usage("cannot ask for a password on this terminal").source(e))?;
    Ok(Some(typed).filter(|text| !text.is_empty()).map(SecretString::from))
}

/// A configuration with what is logged about it before it is used.
struct Resolved<T> {
    config: T,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl<T> Resolved<T> {
    fn log(self) -> T {
        // Notes are warnings too: they name settings of Kong's configuration that we do not follow.
        for text in self.warnings.iter().chain(&self.notes) {
            tracing::warn!("{text}.");
        }
        self.config
    }
}

impl BlueArgs {
    /// Whether there is an address of blue; some commands can do without.
    pub fn is_given(&self, common: &CommonArgs) -> bool {
        self.blue.is_some() || self.blue_kong_conf.is_some() || common.kong_env == Some(DatabaseSide::Blue)
    }

    /// Logs warnings and may ask for a password.
    pub fn resolve(&self, common: &CommonArgs) -> Result<BlueConfig> {
        with_process_inputs(|inputs| self.resolve_in(common, inputs)).map(Resolved::log)
    }

    fn resolve_in(&self, common: &CommonArgs, inputs: &ProcessInputs<'_>) -> Result<Resolved<BlueConfig>> {
        let mut resolved = self.source(common, inputs)?;
        if let Some(options) = &self.blue_options {
            resolved.config.set_options(options)?;
        }
        if let Some(password) = self.password(inputs, &mut resolved.warnings)? {
            resolved.config.password = Some(password);
        } else if self.blue.is_some() && resolved.config.password.is_none() {
            // Kong's own default names a user even if the server requires no login, so only a user in --blue is a
            // reason to ask.
            if let Some(user) = &resolved.config.username {
                resolved.config.password = (inputs.prompt)(&format!("Password of {user} on blue: "))?;
            }
        }
        Ok(resolved)
    }

    fn source(&self, common: &CommonArgs, inputs: &ProcessInputs<'_>) -> Result<Resolved<BlueConfig>> {
        let variables = common.kong_env == Some(DatabaseSide::Blue);
        match (&self.blue, kong_conf(self.blue_kong_conf.as_deref(), variables, inputs)?) {
            (Some(_), Some(_)) => Err(two_addresses("blue")),
            (Some(address), None) => {
                Ok(Resolved { config: BlueConfig::parse(address)?, warnings: Vec::new(), notes: Vec::new() })
            }
            (None, Some(conf)) => {
                let read = conf.blue()?;
                Ok(Resolved { config: read.config, warnings: Vec::new(), notes: read.notes })
            }
            (None, None) => Err(Error::usage("no address for blue").remedy(
                "Give --blue cassandra://user@host/keyspace or --blue-kong-conf kong.conf, or set KONGFERRY_BLUE.",
            )),
        }
    }

    fn password(
        &self,
        inputs: &ProcessInputs<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<SecretString>> {
        read_password(self.blue_password_file.as_deref(), blue::PASSWORD_VARIABLE, inputs, warnings)
    }
}

impl GreenArgs {
    /// Whether there is an address of green; some commands can do without.
    pub fn is_given(&self, common: &CommonArgs) -> bool {
        self.green.is_some() || self.green_kong_conf.is_some() || common.kong_env == Some(DatabaseSide::Green)
    }

    /// Logs warnings.
    pub fn resolve(&self, common: &CommonArgs) -> Result<GreenConfig> {
        with_process_inputs(|inputs| self.resolve_in(common, inputs)).map(Resolved::log)
    }

    fn resolve_in(&self, common: &CommonArgs, inputs: &ProcessInputs<'_>) -> Result<Resolved<GreenConfig>> {
        let mut resolved = self.source(common, inputs)?;
        let config = resolved.config;
        let kong = self.green_schema.clone().unwrap_or_else(|| config.kong_schema().to_owned());
        let work = self.work_schema.as_deref().unwrap_or(DEFAULT_WORK_SCHEMA);
        resolved.config = config.with_schemas(&kong, work)?;
        let file = self.green_password_file.as_deref();
        if let Some(password) = read_password(file, green::PASSWORD_VARIABLE, inputs, &mut resolved.warnings)?
        {
            resolved.config = resolved.config.with_password(&password);
        }
        Ok(resolved)
    }

    fn source(&self, common: &CommonArgs, inputs: &ProcessInputs<'_>) -> Result<Resolved<GreenConfig>> {
        let variables = common.kong_env == Some(DatabaseSide::Green);
        match (&self.green, kong_conf(self.green_kong_conf.as_deref(), variables, inputs)?) {
            (Some(_), Some(_)) => Err(two_addresses("green")),
            (Some(address), None) => {
                let config = GreenConfig::parse(address)?;
                let mut warnings = config.warnings().to_vec();
                let in_process_list = inputs.arguments.iter().any(|argument| argument.contains(address.as_str()));
                if config.password_in_address() && in_process_list {
                    warnings.push(format!(
                        "The password in --green is visible to every user of this machine in the process list; set {} instead",
                        green::PASSWORD_VARIABLE
                    ));
                }
                Ok(Resolved { config, warnings, notes: Vec::new() })
            }
            (None, Some(conf)) => {
                let read = conf.green()?;
                Ok(Resolved { config: read.config, warnings: Vec::new(), notes: read.notes })
            }
            (None, None) => Err(Error::usage("no address for green").remedy(
                "Give --green postgres://user@host/database or --green-kong-conf kong.conf, or set KONGFERRY_GREEN.",
            )),
        }
    }
}

fn kong_conf(file: Option<&Path>, variables: bool, inputs: &ProcessInputs<'_>) -> Result<Option<KongConf>> {
    let conf = match file {
        Some(file) => KongConf::from_file(file)?,
        None if variables => KongConf::empty(),
        None => return Ok(None),
    };
    Ok(Some(if variables { conf.with_environment(inputs.variable) } else { conf }))
}

fn two_addresses(side: &str) -> Error {
    Error::usage(format!("the address of {side} is given twice")).remedy(format!(
        "Give either --{side} or Kong's configuration (--{side}-kong-conf, --kong-env {side})."
    ))
}

fn read_password(
    file: Option<&Path>,
    variable: &str,
    inputs: &ProcessInputs<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<SecretString>> {
    let Some(file) = file else {
        return Ok((inputs.variable)(variable).filter(|text| !text.is_empty()).map(SecretString::from));
    };
    let (password, warning) = password::from_file(file)?;
    warnings.extend(warning);
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn inputs<'a>(
        variable: &'a dyn Fn(&str) -> Option<String>,
        arguments: &'a [String],
    ) -> ProcessInputs<'a> {
        ProcessInputs { variable, arguments, prompt: &|_| Ok(Some("typed".into())) }
    }

    fn blue(
        args: &BlueArgs,
        common: &CommonArgs,
        variables: &[(&str, &str)],
    ) -> Result<Resolved<BlueConfig>> {
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        args.resolve_in(common, &inputs(&lookup, &[]))
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
        args.resolve_in(common, &inputs(&lookup, &arguments))
    }

    fn blue_at(address: &str) -> BlueArgs {
        BlueArgs { blue: Some(address.to_owned()), ..BlueArgs::default() }
    }

    fn green_at(address: &str) -> GreenArgs {
        GreenArgs { green: Some(address.to_owned()), ..GreenArgs::default() }
    }

    fn password(config: &BlueConfig) -> Option<String> {
        config.password.as_ref().map(|password| password.expose_secret().to_owned())
    }

    fn temporary_file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn a_user_without_a_password_is_asked_for_it() {
        let common = CommonArgs::default();
        let asked = blue(&blue_at("cassandra://kong@db1/kong"), &common, &[]).expect("complete");
        assert_eq!(password(&asked.config).as_deref(), Some("typed"));
        let not_asked = blue(&blue_at("cassandra://db1/kong"), &common, &[]).expect("complete");
        assert_eq!(password(&not_asked.config), None);
    }

    #[test]
    fn the_password_file_goes_before_the_variable_and_both_before_the_prompt() {
        let common = CommonArgs::default();
        let variables = [("KONGFERRY_BLUE_PASSWORD", "from-variable")];
        let mut args = blue_at("cassandra://kong@db1/kong");
        let resolved = blue(&args, &common, &variables).expect("complete");
        assert_eq!(password(&resolved.config).as_deref(), Some("from-variable"));
        let file = temporary_file("from-file\n");
        args.blue_password_file = Some(file.path().to_owned());
        let resolved = blue(&args, &common, &variables).expect("complete");
        assert_eq!(password(&resolved.config).as_deref(), Some("from-file"));
    }

    #[test]
    fn options_are_laid_over_kongs_configuration() {
        let file =
            temporary_file("database = cassandra\ncassandra_ssl = on\ncassandra_local_datacenter = dc1\n");
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
    fn kongs_variables_configure_one_side_only() {
        let common = CommonArgs { kong_env: Some(DatabaseSide::Blue), ..CommonArgs::default() };
        let variables = [
            ("KONG_DATABASE", "cassandra"),
            ("KONG_CASSANDRA_CONTACT_POINTS", "db7"),
            ("KONG_PG_HOST", "db8"),
        ];
        let config = blue(&BlueArgs::default(), &common, &variables).expect("complete").config;
        assert_eq!(config.hosts(), "db7:9042");
        let file = temporary_file("pg_host = db9\n");
        let args = GreenArgs { green_kong_conf: Some(file.path().to_owned()), ..GreenArgs::default() };
        assert_eq!(green(&args, &common, &variables).expect("complete").config.address(), "db9:5432");
        assert!(!GreenArgs::default().is_given(&common));
    }

    #[test]
    fn no_address_and_two_addresses_are_usage_errors() {
        let common = CommonArgs::default();
        let message = |result: Result<Resolved<BlueConfig>>| result.err().map(|e| e.message().to_owned());
        assert_eq!(message(blue(&BlueArgs::default(), &common, &[])).as_deref(), Some("no address for blue"));
        let with_variables = CommonArgs { kong_env: Some(DatabaseSide::Blue), ..CommonArgs::default() };
        let twice = blue(&blue_at("cassandra://db1/kong"), &with_variables, &[]);
        assert_eq!(message(twice).as_deref(), Some("the address of blue is given twice"));
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
        let file = temporary_file("pg_schema = one\n");
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
}
