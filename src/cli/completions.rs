//! `completions`: a script by which a shell completes commands and flags.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::error::{Error, Kind, Result};

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub(super) struct CompletionsArgs {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "kongferry", &mut script);
    let written = std::io::stdout().write_all(&script);
    written.map_err(|e| Error::new(Kind::Io, "cannot write the completion script to stdout").source(e))?;
    Ok(0)
}
