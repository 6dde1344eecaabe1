//! The parts of a conversation that one answer has: bounded numbers of turns and characters.

use serde_json::{Value, json};

use crate::core::event::{Event, Turn};

/// The number of turns in an answer.
const WINDOW: usize = 40;
/// The number of turns before the judged one in the first window.
const BEFORE: usize = 20;
/// The number of characters of one turn in an answer.
const PART: usize = 20_000;
/// The number of characters in an answer. The judged turn comes first.
const ANSWER: usize = 100_000;

/// Returns the turns from `from`, or those around the judged one.
pub fn window(event: &Event, from: Option<usize>) -> Value {
    let count = event.turns.len();
    let from = from.unwrap_or_else(|| event.judged.saturating_sub(BEFORE)).min(count.saturating_sub(1));
    let until = count.min(from + WINDOW);
    let mut left = ANSWER;
    let judged = (from..until).contains(&event.judged).then(|| turn(event, event.judged, &mut left));
    let turns: Vec<_> = (from..until)
        .filter_map(|index| match &judged {
            Some(judged) if index == event.judged => Some(judged.clone()),
            _ => event.turns.get(index).map(|_| turn(event, index, &mut left)),
        })
        .collect();
    json!({ "count": count, "judged": event.judged, "from": from, "turns": turns })
}

/// Returns the characters of a turn from `from`.
pub fn part(event: &Event, index: usize, from: usize) -> Value {
    let Some(Turn { text, .. }) = event.turns.get(index) else {
        return json!({ "text": "", "more": 0 });
    };
    let mut rest = text.chars().skip(from);
    let text: String = rest.by_ref().take(PART).collect();
    json!({ "text": text, "more": rest.count() })
}

fn turn(event: &Event, index: usize, left: &mut usize) -> Value {
    let Some(Turn { role, text }) = event.turns.get(index) else { return Value::Null };
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(PART.min(*left)).collect();
    *left -= shown.chars().count();
    json!({ "index": index, "role": role.word(), "text": shown, "more": rest.count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Role;

    fn event(turns: usize, judged: usize, text: &str) -> Event {
        Event {
            turns: vec![Turn { role: Role::User, text: text.into() }; turns],
            judged,
            ..Event::example("e", text)
        }
    }

    #[test]
    fn the_first_window_has_the_judged_turn_and_all_windows_are_bounded() {
        let long = event(10_000, 9_999, "ha ");
        let shown = window(&long, None);
        let turns = shown["turns"].as_array().unwrap();
        assert_eq!((turns.len(), &turns[20]["index"]), (21, &json!(9_999)));
        for from in [0, 5_000, usize::MAX] {
            assert!(window(&long, Some(from))["turns"].as_array().unwrap().len() <= WINDOW);
        }
    }

    #[test]
    fn a_text_of_a_million_characters_comes_in_parts() {
        let text: String = "0123456789\u{202e}\u{1f642}".chars().cycle().take(300_000).collect();
        let event = event(3, 1, &text);
        let shown = window(&event, None);
        assert!(shown.to_string().len() < 5 * ANSWER);
        let judged = &shown["turns"][1];
        let mut read = judged["text"].as_str().unwrap().to_owned();
        assert_eq!(judged["more"], json!(280_000));
        loop {
            let next = part(&event, 1, read.chars().count());
            read.push_str(next["text"].as_str().unwrap());
            if next["more"] == json!(0) {
                break;
            }
        }
        assert_eq!(read, text);
        assert_eq!(part(&event, 9, 0)["more"], json!(0));
    }
}
