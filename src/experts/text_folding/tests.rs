use proptest::prelude::*;

use super::*;

fn folded(text: &str) -> String {
    fold(text).text
}

#[test]
fn look_alikes_become_equal() {
    for (text, expected) in [
        ("Kill", "kill"),
        ("ｋｉｌｌ", "kill"),
        ("𝓴𝓲𝓵𝓵", "kill"),
        ("kіll", "kill"),
        ("k\u{200b}i\u{ad}l\u{2060}l", "kill"),
        ("k\u{336}i\u{336}l\u{336}l\u{336}", "kill"),
        ("Кіll", "kill"),
        ("kíll", "kill"),
        ("k1ll", "kill"),
        ("@$$", "@$$"),
        ("a$$hole!", "asshole!"),
        ("İstanbul", "istanbul"),
        ("  a \t\n b ", "a b"),
        ("can’t", "can't"),
        ("한국어", "한국어"),
        ("100 apples", "100 apples"),
        ("a1@example.com", "a1@example.com"),
        ("Samsung Galaxy A55, the A55's", "samsung galaxy a55, the a55's"),
        ("(A55) A5s mp3 PS5 covid-19 x-4", "(a55) a5s mp3 ps5 covid-19 x-4"),
        (
            "@ss a$$ sh1t f4ggot f4g 4ss a55hole 5h!t n1gg4 k1k3 d1ck5 t1t5",
            "ass ass shit faggot fag ass asshole shit nigga kike dicks tits",
        ),
        ("a5$ @55 a55-h0les", "ass @55 a55-holes"),
        ("A$5, US$55, C$70 and a$5hole", "a$5, us$55, c$70 and asshole"),
        ("🅺ⓘ🄻🅻 Ⓚ🅘ⓛⓛ", "kill kill"),
        ("a\u{e006b}\u{e0069}\u{e006c}\u{e006c} b", "a kill b"),
        ("🇩🇪 👨‍👩‍👧", "🇩🇪 👨👩👧"),
    ] {
        assert_eq!(folded(text), expected, "{text:?}");
    }
}

fn readings(text: &str) -> Vec<String> {
    fold(text).readings().map(str::to_owned).collect()
}

#[test]
fn a_text_has_a_reading_for_each_way_to_split_or_spell_it() {
    for (text, expected) in [
        ("kill\u{200b}yourself", vec!["killyourself", "kill yourself"]),
        ("k\u{200b}ill", vec!["kill", "k ill"]),
        ("FUUUCK", vec!["fuuuck", "fuck", "fuuck"]),
        ("f u c k", vec!["f u c k", "fuck"]),
        ("soft\u{ad}ly, \u{200b}aardvarks", vec!["softly, aardvarks"]),
    ] {
        assert_eq!(readings(text), expected, "{text:?}");
    }
}

#[test]
fn every_invisible_character_separates_words_except_parts_of_words() {
    let parts_of_words = ['\u{ad}', '\u{180f}']
        .into_iter()
        .chain('\u{180b}'..='\u{180d}')
        .chain('\u{fe00}'..='\u{fe0f}')
        .chain('\u{e0000}'..='\u{e007f}')
        .chain('\u{e0100}'..='\u{e01ef}')
        .collect::<BTreeSet<_>>();
    let separators: Vec<_> =
        ('\0'..=char::MAX).filter(|c| is_invisible(*c) && !parts_of_words.contains(c)).collect();
    for known in [
        '\u{1}', '\u{34f}', '\u{115f}', '\u{200e}', '\u{202e}', '\u{2062}', '\u{2069}', '\u{3164}',
        '\u{ffa0}',
    ] {
        assert!(separators.contains(&known), "{known:?}");
    }
    for separator in separators {
        let found = readings(&format!("kill{separator}yourself"));
        assert!(found.iter().any(|reading| reading == "kill yourself"), "{separator:?}: {found:?}");
    }
    for part in parts_of_words {
        let found = readings(&format!("kill{part}yourself"));
        assert!(!found.iter().any(|reading| reading == "kill yourself"), "{part:?}: {found:?}");
    }
}

#[test]
fn a_text_that_grows_too_large_is_cut() {
    // U+FDFA becomes eighteen characters.
    let found = fold(&"\u{fdfa}".repeat(300_000));
    assert!(found.truncated && found.text.len() <= MAX_FOLDED_SIZE + 64, "{}", found.text.len());
    for ascii in [
        "k".repeat(MAX_FOLDED_SIZE + 1),
        "1".repeat(MAX_FOLDED_SIZE + 1),
        "ab ".repeat(MAX_FOLDED_SIZE / 3 + 1),
    ] {
        let found = fold(&ascii);
        assert!(found.truncated && found.text.len().abs_diff(MAX_FOLDED_SIZE) <= 1, "{}", found.text.len());
    }
    assert!(!fold(&"k".repeat(MAX_FOLDED_SIZE)).truncated);
}

/// The text, folded character by character.
fn one_by_one(text: &str) -> String {
    let mut folder = Folder::new(0);
    assert!(normalize(&reveal(text).text, &mut Letters::default()).all(|c| folder.push(c)));
    folder.finish().text
}

proptest! {
    #[test]
    fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
        let once = folded(&text);
        prop_assert_eq!(folded(&once), once);
    }

    #[test]
    fn any_text_folds(text in any::<String>()) {
        let _ = fold(&text);
    }

    #[test]
    fn ascii_needs_no_unicode_tables(text in "([ -~\\t\\n\\x00-\\x1f]{0,6}\\PC{0,3}[\u{0}-\u{2ff}\u{300}-\u{345}\u{3099}\u{1100}-\u{11ff}]{0,3}){0,6}") {
        let mut letters = Letters::default();
        let by_tables: String = normalize(&text, &mut letters).collect();
        let by_runs: String = std::iter::successors(Some(split_run(&text)), |(_, rest)| Some(split_run(rest)))
            .take_while(|(part, _)| !part.is_empty())
            .flat_map(|(part, _)| normalize(part, &mut Letters::default()).collect::<Vec<_>>())
            .collect();
        prop_assert_eq!(&by_tables, &by_runs);
        prop_assert_eq!(one_by_one(&text), folded(&text));
    }

    #[test]
    fn blocks_do_not_change_the_result(text in "([a-zA-Z,.]{1,9} ){0,20}[ 0-9!@$\\t\u{e4}]{0,2}([a-z ]{0,50}[a-z]{0,40}){0,3}") {
        prop_assert_eq!(one_by_one(&text), folded(&text));
    }
}
