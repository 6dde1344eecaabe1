// The conversation of a request for review, of which some turns are on the page.

import { by, count, element, plain, post, sentence } from "/assets/shell.js";

// Characters that are invisible, or that reverse the order of others. Line breaks, tabs and the joiners of scripts and emoji
// are left as they are.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const MAX_MARKS = 500;
/** The number of turns that the console answers at a time. */
const PAGE = 40;

let claim = null; // of the request whose conversation is on the page
let mayShow = true; // console.show_text
let shown = null; // the turns on the page: { count, judged, from, turns }
let closed = () => {}; // takes the refusal if the request on the page turns out to be closed

/** Removes the conversation from the page. */
export function clearText() {
  claim = null;
  shown = null;
  by("turns").replaceChildren();
}

/** Begins with the conversation of a claimed request, whose turns are read next. */
export function beginText(ofClaim, showText) {
  claim = ofClaim;
  mayShow = showText;
}

/** Sets what is done with the refusal if a reviewer asks for a text whose request was closed. */
export function onClosed(handler) {
  closed = handler;
}

export function earlierTurns() {
  if (shown) showTurns(Math.max(0, shown.from - PAGE));
}

export function laterTurns() {
  if (shown) showTurns(shown.from + shown.turns.length);
}

/** Puts a text into an element, with what cannot be seen marked by its code. */
function setText(target, text) {
  const code = (run) => `U+${run.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  if ((text.match(HIDDEN)?.length ?? 0) > MAX_MARKS) {
    target.append(text.replace(HIDDEN, (run) => `[${code(run)}]`));
    return;
  }
  let last = 0;
  for (const found of text.matchAll(HIDDEN)) {
    target.append(text.slice(last, found.index), element("mark", { text: code(found[0]), title: "an invisible character" }));
    last = found.index + found[0].length;
  }
  target.append(text.slice(last));
}

function drawTurn(turn) {
  const judged = turn.index === shown.judged;
  const text = element("div", { class: "text", dir: "auto" });
  setText(text, turn.text);
  const head = element("div", { class: "by" },
    judged ? element("strong", { text: "Judged turn" }) : null,
    `${judged ? " – " : ""}${plain(turn.role)}, turn ${count(turn.index + 1)} of ${count(shown.count)}`);
  const made = element("li", {
    class: judged ? "turn judged" : "turn",
    id: judged ? "judged" : null,
    tabindex: judged ? "-1" : null,
    "aria-current": judged ? "true" : null,
  }, head, text);
  let more = turn.more;
  let from = [...turn.text].length;
  if (more > 0) {
    const button = element("button", { type: "button", class: "quiet more" });
    const label = () => { button.textContent = `Show more: ${count(more)} characters are left`; };
    button.addEventListener("click", async () => {
      const asked = claim;
      try {
        const part = await post("/api/review/part", { claim: asked, turn: turn.index, from });
        setText(text, part.text);
        from += [...part.text].length;
        more = part.more;
        if (more > 0) label();
        else button.remove();
      } catch (error) {
        const refusal = claim === asked ? textFailed(error) : null;
        if (refusal) closed(refusal);
      }
    });
    label();
    made.append(button);
  }
  return made;
}

function drawTurns() {
  by("turns").replaceChildren(...shown.turns.map(drawTurn));
  const last = shown.from + shown.turns.length;
  by("earlier").disabled = shown.from === 0;
  by("later").disabled = last >= shown.count;
  by("place").textContent = `turns ${count(shown.from + 1)} to ${count(last)} of ${count(shown.count)}`;
}

/** Moves to the judged turn, which is read again if it is not on the page. */
export function toJudged() {
  const judged = by("judged");
  if (judged) {
    judged.scrollIntoView({ block: "center" });
    judged.focus({ preventScroll: true });
  } else if (shown) {
    showTurns(null);
  }
}

/** Reads turns that the reviewer asks for, around the judged one if `from` is null. */
export async function showTurns(from) {
  const refusal = await readTurns(from);
  if (refusal) closed(refusal);
}

/**
 * Reads turns of the current request, around the judged one if `from` is null. Returns the refusal if the request was
 * closed, and null otherwise.
 */
export async function readTurns(from) {
  const asked = claim;
  by("text-error").hidden = true;
  by("text-again").hidden = true;
  if (!mayShow) {
    by("text-error").textContent = "Texts are not shown: console.show_text is false.";
    by("text-error").hidden = false;
    return null;
  }
  try {
    const turns = await post("/api/review/turns", { claim: asked, from });
    if (claim !== asked) return null;
    shown = turns;
    drawTurns();
    if (from === null) toJudged();
    return null;
  } catch (error) {
    return claim === asked ? textFailed(error) : null;
  }
}

/** Shows an error of reading a text, which may succeed later. Returns a refusal, which is not shown here. */
function textFailed(error) {
  if (error.status === 409) return error;
  by("text-error").textContent = sentence(error.message);
  by("text-error").hidden = false;
  by("text-again").hidden = false;
  return null;
}
