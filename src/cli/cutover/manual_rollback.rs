//! The way back without this program, for when the provider does not let it in.

use super::super::text::BAD;
use super::Site;
use crate::cutover::config::CutoverConfig;
use crate::cutover::engine::write::ROLLED_BACK;
use crate::cutover::journal::{Entry, What};
use crate::dns::{Desired, Marker, Precondition, RecordForm, Share, Ttl};

/// The command that goes back without us: from what this machine wrote last, or else from the file alone.
pub(super) fn by_hand(site: &Site, entries: &[Entry]) -> Option<String> {
    let written = entries.iter().rev().find_map(|entry| match &entry.what {
        What::Intent { change, .. } => Some(&change.after),
        _ => None,
    });
    let known = written.and_then(|seen| {
        let marker = seen.marker.clone()?;
        let desired = Desired {
            form: RecordForm::Split(Share::BLUE),
            ttl: Ttl::AsFound,
            marker: Some(Marker {
                generation: marker.generation + 1,
                share: Share::BLUE,
                lease_until: None,
                state: ROLLED_BACK.to_owned(),
                ..marker
            }),
            precondition: Precondition::Overwrite,
        };
        site.provider.plan(&site.config.target, seen, &desired).ok()
    });
    match known {
        Some(change) => Some(site.provider.manual_command(&change)),
        None => from_the_file_alone(&site.config),
    }
}

pub(super) fn from_the_file_alone(config: &CutoverConfig) -> Option<String> {
    config.provider.manual_rollback(&config.target, config.settings.ttl).ok()
}

pub(super) fn print_by_hand(command: Option<String>) {
    // Not indented: the command ends with a line that must stand at the margin.
    if let Some(command) = command {
        anstream::eprintln!(
            "{BAD}The provider cannot be asked. To bring blue back by hand, in bash, with the credentials at hand:{BAD:#}\n{command}\n"
        );
    }
}
