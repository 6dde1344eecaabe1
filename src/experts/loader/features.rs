//! Selects which encoders of a panel give the learner's features.

use std::path::PathBuf;

use crate::experts::error::PanelError;
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::manifest::{Body, Manifest};

/// Selects the encoder that gives the features, the one with the greatest rank, and its partner. All others give none.
pub(super) fn select_features(manifests: &mut [(PathBuf, Manifest)]) -> Result<(), PanelError> {
    let Some(leader) = leader(manifests)? else {
        manifests.iter_mut().for_each(|(_, manifest)| keep(manifest, |_| FeatureOutputs::default()));
        return Ok(());
    };
    let partner = partner(manifests, leader)?;
    for (place, (_, manifest)) in manifests.iter_mut().enumerate() {
        keep(manifest, |outputs| match place {
            _ if place == leader && partner.is_some() => outputs,
            _ if place == leader => FeatureOutputs { part: None, ..outputs },
            _ if Some(place) == partner => FeatureOutputs { alone: None, ..outputs },
            _ => FeatureOutputs::default(),
        });
    }
    Ok(())
}

/// The place of the encoder with features that has the greatest rank.
fn leader(manifests: &[(PathBuf, Manifest)]) -> Result<Option<usize>, PanelError> {
    let ranked = manifests.iter().enumerate().filter_map(|(place, (_, manifest))| match &manifest.body {
        Body::Encoder { features, features_rank, .. } if features.alone.is_some() => {
            Some((*features_rank, place))
        }
        _ => None,
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_unstable();
    if let [.., (second_rank, second), (rank, first)] = ranked[..]
        && second_rank == rank
    {
        let (path, _) = &manifests[first];
        let (_, other) = &manifests[second];
        return Err(PanelError::Manifest {
            path: path.clone(),
            field: "outputs.features".to_owned(),
            problem: format!(
                "{} gives features with the same rank, and a panel has only one set of them",
                other.id
            ),
            remedy: "give one of the two a greater outputs.features_rank, or leave one out with experts.only"
                .to_owned(),
        });
    }
    Ok(ranked.last().map(|(_, place)| *place))
}

/// The place of this encoder's partner, if it is on the panel.
fn partner(manifests: &[(PathBuf, Manifest)], leader: usize) -> Result<Option<usize>, PanelError> {
    let (path, manifest) = &manifests[leader];
    let Some(joint) = manifest.joint() else { return Ok(None) };
    let is_partner = |(_, other): &(PathBuf, Manifest)| other.id == joint.encoder;
    let Some(place) = manifests.iter().position(is_partner) else {
        let (encoder, partner) = (&manifest.id, &joint.encoder);
        tracing::info!(
            encoder,
            partner,
            "the learner's features are of one encoder: its partner is not on the panel"
        );
        return Ok(None);
    };
    match &manifests[place].1.body {
        Body::Encoder { features, .. } if features.part.is_some() && place != leader => Ok(Some(place)),
        _ => Err(PanelError::Manifest {
            path: path.clone(),
            field: "joint.encoder".to_owned(),
            problem: format!("{} is not another encoder that has outputs.features_part", joint.encoder),
            remedy: "name an encoder that has that output, or remove the table".to_owned(),
        }),
    }
}

/// Replaces the outputs of an encoder that hold features.
fn keep(manifest: &mut Manifest, kept: impl FnOnce(FeatureOutputs) -> FeatureOutputs) {
    if let Body::Encoder { features, .. } = &mut manifest.body {
        *features = kept(std::mem::take(features));
    }
}
