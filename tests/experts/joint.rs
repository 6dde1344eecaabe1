//! Features that two encoders give together.

use crate::experts_support;

use std::time::Duration;

use aegis::experts::{Panel, PanelConfig};
use experts_support::asked::config;
use experts_support::{Folder, faulty_encoder, models, plain_encoder};

/// A text in German, for which the tokenizer of the tiny experts knows the first word only.
const GERMAN: &str = "fine ich möchte heute gerne mit meinen Freunden ins Kino gehen und danach etwas essen";

/// The first and the last feature of each text.
fn features(panel: &Panel, texts: &[&str]) -> Vec<Option<[i8; 2]>> {
    let ends = |answer: aegis::experts::Answer| answer.reading.map(|it| [it.features[0], it.features[383]]);
    let asked: Vec<_> = panel.ask(texts).into_iter().map(ends).collect();
    let read = panel.read(texts, |_| {});
    let read: Vec<_> = read.into_iter().map(|it| it.map(|it| [it.features[0], it.features[383]])).collect();
    assert_eq!(asked, read, "reading gives the features of asking");
    asked
}

fn together() -> Folder {
    let folder = Folder::new();
    folder
        .leading_encoder("leader", &plain_encoder(), "partner")
        .partner_encoder("partner", &faulty_encoder());
    folder
}

#[test]
fn the_parts_of_both_encoders_are_summed() {
    let folder = together();
    let panel = Panel::open(config(&folder)).unwrap();
    // Ten times .25 from each. The second time they come from the cache.
    for _ in 0..2 {
        assert_eq!(features(&panel, &["fine", "bad"]), [Some([5, 5]), Some([15, 15])]);
    }
}

#[test]
fn a_text_that_the_partner_does_not_read_has_the_leaders_features() {
    let folder = together();
    let panel = Panel::open(config(&folder)).unwrap();
    assert_eq!(features(&panel, &[GERMAN]), [Some([25, 25])]);
}

/// A text's features do not depend on who was in time: they are those of both encoders, or none.
#[test]
fn an_encoder_that_fails_or_hangs_leaves_no_features() {
    let partner_fails = together();
    let leader_fails = Folder::new();
    leader_fails
        .leading_encoder("leader", &faulty_encoder(), "partner")
        .partner_encoder("partner", &plain_encoder());
    for folder in [partner_fails, leader_fails] {
        let timeout = Duration::from_millis(500);
        let panel = Panel::open(PanelConfig { timeout, ..config(&folder) }).unwrap();
        let english = |word: &str| format!("{word} is what they found in the water yesterday evening");
        let [poison, nan, bad, hang] = ["poison", "nan", "bad", "hang"].map(english);
        assert_eq!(features(&panel, &[&poison, &nan, &bad]), [None, None, Some([15, 15])]);
        assert_eq!(panel.ask(&[hang.as_str()]).remove(0).reading, None);
    }
}

#[test]
fn the_id_covers_both_encoders_and_a_partner_may_be_left_out() {
    let folder = together();
    let both = Panel::open(config(&folder)).unwrap();
    let partner = both.encoder_info().unwrap().partner.clone().unwrap();
    assert_eq!((partner.encoder.as_str(), partner.languages.to_string().as_str()), ("partner", "en"));

    let single = Folder::new();
    single.leading_encoder("leader", &plain_encoder(), "partner");
    let alone = Panel::open(config(&single)).unwrap();
    assert_eq!(alone.encoder_info().unwrap().partner, None);
    assert_eq!(features(&alone, &["fine"]), [Some([25, 25])]);

    let other = Folder::new();
    other.leading_encoder("leader", &plain_encoder(), "partner").partner_encoder("partner", &plain_encoder());
    let other = Panel::open(config(&other)).unwrap();
    let ids = [&both, &alone, &other].map(Panel::encoder);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

/// On the bundled panel, MiniLM gives its part to texts in English, and the features differ from those without it.
#[test]
fn minilm_has_its_part_in_the_features_of_english_texts() {
    let open = |ids: &[&str]| {
        let only = Some(ids.iter().map(|id| (*id).to_owned()).collect());
        let base = PanelConfig { sessions: Some(1), require_all: true, ..PanelConfig::new(models()) };
        Panel::open(PanelConfig { only, ..base }).unwrap()
    };
    let (both, alone) = (open(&["hate", "multilingual-hate"]), open(&["multilingual-hate"]));
    let distance = |text: &str| {
        let [both, alone] =
            [&both, &alone].map(|panel| panel.read(&[text], |_| ()).remove(0).unwrap().features);
        both.iter().zip(alone.iter()).map(|(one, other)| u32::from(one.abs_diff(*other))).sum::<u32>()
    };
    assert_eq!(distance("¿Cómo llego desde aquí a la estación, por favor?"), 0);
    // The multilingual encoder alone only estimates the part of the other one.
    let english = distance("How do I get to the station from here, please?");
    assert!((384..384 * 64).contains(&english), "{english}");
}
