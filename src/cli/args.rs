//! The groups of flags that several commands share.
//!
//! Each flag names its help heading itself: clap's `next_help_heading` would go on to the flags of the command that
//! flattens the group (tests/help.rs).

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use crate::error::Result;
use crate::green::baseline::Baseline;
use crate::inspect::InspectOptions;
use crate::mapping::schema_map::SchemaMap;
use crate::mapping::table_plan::TableChoices;
use crate::settings::kong_conf::DatabaseSide;

const BLUE: &str = "Blue (Kong on Cassandra)";
const GREEN: &str = "Green (Kong on PostgreSQL)";
const TABLES: &str = "Tables";
const GENERAL: &str = "General";

/// Where blue is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BlueArgs {
    /// Address of blue: cassandra://user@host,host/keyspace?options
    ///
    /// Options: dc, consistency (default: all), tls (off, require, verify or verify-ca; default: off), tls_ca, tls_cert and
    /// tls_key (PEM files), connect_timeout (default: 10s), request_timeout (default: 60s), page_size (rows; default:
    /// 5000). The password comes from a file, the environment or a prompt, never from the address. Environment:
    /// KONGFERRY_BLUE.
    #[arg(long, help_heading = BLUE, value_name = "URL", env = "KONGFERRY_BLUE", hide_env = true)]
    pub blue: Option<String>,

    /// Kong's configuration file, read instead of --blue
    #[arg(long, help_heading = BLUE, value_name = "FILE")]
    pub blue_kong_conf: Option<PathBuf>,

    /// Options that override those of the address, such as consistency=quorum
    ///
    /// The options of --blue, joined by &: consistency=quorum&tls=require. They apply to --blue-kong-conf too.
    #[arg(long, help_heading = BLUE, value_name = "OPTIONS")]
    pub blue_options: Option<String>,

    /// File with the password
    ///
    /// Default: a prompt, if the address names a user. Environment: KONGFERRY_BLUE_PASSWORD (the password itself).
    #[arg(long, help_heading = BLUE, value_name = "FILE")]
    pub blue_password_file: Option<PathBuf>,
}

/// Where green is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GreenArgs {
    /// Address of green: postgres://user@host:5432/database?options
    ///
    /// Options and environment variables are those of libpq: sslmode, PGHOST, PGPASSWORD, ~/.pgpass and so on.
    /// Environment: KONGFERRY_GREEN.
    #[arg(
        long,
        help_heading = GREEN,
        value_name = "URL",
        env = "KONGFERRY_GREEN",
        hide_env = true,
        hide_env_values = true
    )]
    pub green: Option<String>,

    /// Kong's configuration file, read instead of --green
    #[arg(long, help_heading = GREEN, value_name = "FILE")]
    pub green_kong_conf: Option<PathBuf>,

    /// File with the password
    ///
    /// Default: PGPASSWORD or ~/.pgpass. Environment: KONGFERRY_GREEN_PASSWORD (the password itself).
    #[arg(long, help_heading = GREEN, value_name = "FILE")]
    pub green_password_file: Option<PathBuf>,

    /// Schema of Kong's tables (pg_schema) [default: public]
    #[arg(long, help_heading = GREEN, value_name = "NAME")]
    pub green_schema: Option<String>,

    /// Schema of kongferry's own tables [default: kongferry]
    #[arg(long, help_heading = GREEN, value_name = "NAME")]
    pub work_schema: Option<String>,
}

/// Schema maps of the user.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SchemaMapArgs {
    /// Schema map of your own (repeatable)
    ///
    /// JSON file, as docs/custom-plugins.md describes it; a later one overrides an earlier one. Default: the built-in map
    /// of blue's Kong version.
    #[arg(long, help_heading = TABLES, value_name = "FILE")]
    schema_map: Vec<PathBuf>,
}

impl SchemaMapArgs {
    pub fn read(&self) -> Result<Vec<SchemaMap>> {
        self.schema_map.iter().map(|path| SchemaMap::from_file(path)).collect()
    }
}

/// Which tables move, and by which rules.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TableArgs {
    /// Table to leave behind (repeatable)
    #[arg(long, help_heading = TABLES, value_name = "TABLE")]
    skip_table: Vec<String>,

    /// Table that moves only on request (repeatable)
    ///
    /// For example sessions. inspect lists these tables.
    #[arg(long, help_heading = TABLES, value_name = "TABLE")]
    include_table: Vec<String>,

    #[command(flatten)]
    maps: SchemaMapArgs,

    /// Baseline of green, from inspect --save-baseline
    ///
    /// Rows on green that are in it, unchanged, were made by the bootstrap and are replaced by blue's.
    #[arg(long, help_heading = TABLES, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

impl TableArgs {
    /// Reads the schema maps and the baseline.
    pub fn choices(&self, green_online: bool) -> Result<InspectOptions> {
        Ok(InspectOptions {
            tables: TableChoices {
                include: self.include_table.iter().cloned().collect(),
                skip: self.skip_table.iter().cloned().collect(),
            },
            maps: self.maps.read()?,
            green_online,
            only_reading: false,
            baseline: self.baseline.as_deref().map(Baseline::from_file).transpose()?,
        })
    }
}

/// What every command understands.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CommonArgs {
    /// Configuration file [default: kongferry.toml]
    ///
    /// TOML. Its keys are the names of the flags. Environment: KONGFERRY_CONFIG.
    #[arg(long, help_heading = GENERAL, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Format of the result on stdout
    #[arg(
        long,
        help_heading = GENERAL,
        value_enum,
        default_value_t,
        value_name = "text|json",
        hide_possible_values = true
    )]
    pub format: Format,

    /// Format of the log on stderr
    #[arg(
        long,
        help_heading = GENERAL,
        value_enum,
        default_value_t,
        value_name = "text|json",
        hide_possible_values = true
    )]
    pub log_format: Format,

    /// Side whose Kong configuration the KONG_* variables override
    ///
    /// Without a configuration file of that side the variables are its whole configuration.
    #[arg(
        long,
        help_heading = GENERAL,
        value_enum,
        value_name = "blue|green",
        hide_possible_values = true
    )]
    pub kong_env: Option<DatabaseSide>,

    /// When to use colors
    ///
    /// auto: on a terminal, unless NO_COLOR is set.
    #[arg(
        long,
        help_heading = GENERAL,
        value_enum,
        default_value_t,
        value_name = "auto|always|never",
        hide_possible_values = true
    )]
    pub color: Color,

    /// Increase verbosity (-vv: debug)
    ///
    /// Environment: KONGFERRY_LOG (a filter such as kongferry=trace).
    #[arg(short, long, help_heading = GENERAL, action = ArgAction::Count)]
    pub verbose: u8,

    /// Log errors only
    #[arg(short, long, help_heading = GENERAL, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl CommonArgs {
    /// Whether results list what they otherwise add up.
    pub fn is_verbose(&self) -> bool {
        self.verbose > 0
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Sets the choice for everything that is printed through `anstream`.
    pub fn apply(self) {
        let choice = match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn shared_flags_are_consistent() {
        #[derive(clap::Parser)]
        struct All {
            #[command(flatten)]
            _blue: BlueArgs,
            #[command(flatten)]
            _green: GreenArgs,
            #[command(flatten)]
            _tables: TableArgs,
            #[command(flatten)]
            _common: CommonArgs,
        }
        All::command().debug_assert();
    }
}
