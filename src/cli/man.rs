//! `man`: manual pages from the definitions that the help is made of (`make man`).

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::error::{Error, Kind, Result};

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub(super) struct ManArgs {
    /// Directory for the pages
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> Result<u8> {
    let written = std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(super::Cli::command(), &args.out));
    written.map_err(|e| {
        Error::new(Kind::Io, format!("cannot write manual pages to {}", args.out.display())).source(e)
    })?;
    Ok(0)
}
