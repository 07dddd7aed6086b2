//! The rollback without kongferry.

use super::super::text::BAD;
use super::CutoverContext;
use crate::cutover::config::CutoverConfig;
use crate::cutover::journal::{JournalEntry, JournalEvent};
use crate::cutover::marker::ROLLED_BACK;
use crate::dns::{Desired, Marker, Precondition, RecordForm, Share, Ttl};

/// The command that rolls back without kongferry: from the last write of this machine, or else from the file.
pub(super) fn manual_rollback(context: &CutoverContext, entries: &[JournalEntry]) -> Option<String> {
    let last_written = entries.iter().rev().find_map(|entry| match &entry.event {
        JournalEvent::Intent { change, .. } => Some(&change.after),
        _ => None,
    });
    let change = last_written.and_then(|observed| {
        let marker = observed.marker.clone()?;
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
        context.provider.plan(&context.config.target, observed, &desired).ok()
    });
    match change {
        Some(change) => Some(context.provider.manual_command(&change)),
        None => rollback_from_config(&context.config),
    }
}

pub(super) fn rollback_from_config(config: &CutoverConfig) -> Option<String> {
    config.provider.manual_rollback(&config.target, config.settings.ttl).ok()
}

pub(super) fn print_manual_rollback(command: Option<String>) {
    // Not indented: the last line of the command ends a here-document.
    if let Some(command) = command {
        anstream::eprintln!(
            "{BAD}The provider does not answer. To roll back manually, run this in bash with the provider's credentials:{BAD:#}\n{command}\n"
        );
    }
}
