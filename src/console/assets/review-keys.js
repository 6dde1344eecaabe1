// The keys of the page of reviews, and the categories that the digits choose.

import { by, element, plain } from "/assets/shell.js";
import { toJudged } from "/assets/review-text.js";

/** Draws the categories of an answer. The first nine have a key. */
export function drawCategories(taxonomy) {
  const boxes = taxonomy.map((one, at) => element("label", { class: "choice" },
    element("input", { type: "checkbox", name: "category", value: one.slug, "aria-keyshortcuts": at < 9 ? String(at + 1) : null }),
    ` ${plain(one.name)} `,
    at < 9 ? element("kbd", { text: String(at + 1) }) : null));
  by("category-list").replaceChildren(...boxes);
  by("categories").hidden = boxes.length === 0;
}

function choose(verdict) {
  const radio = by("answer").querySelector(`input[value="${verdict}"]`);
  if (by("desk").hidden) return;
  radio.checked = true;
  radio.focus({ preventScroll: true });
}

/**
 * Returns the handler of pressed keys. It calls `active` for each of them, and `send`, `skip` and `undo` for theirs.
 */
export function keyboard({ active, send, skip, undo }) {
  const single = {
    s: () => choose("safe"),
    u: () => choose("unsafe"),
    c: () => choose("needs_caution"),
    x: skip,
    z: undo,
    j: toJudged,
    "?": () => { by("help").open = !by("help").open; },
  };
  return (event) => {
    active();
    if (event.isComposing) return;
    if (event.repeat) {
      // A key that is held sends one answer.
      if (event.key === "Enter" && event.target.closest("#answer input")) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.altKey || event.metaKey || !by("single-keys").checked) return;
    if (event.target.closest("select, textarea, input[type=text], input[type=password]")) return;
    const category = /^[1-9]$/.test(event.key) && by("category-list").querySelectorAll("input")[Number(event.key) - 1];
    if (category && !by("desk").hidden) {
      category.checked = !category.checked;
      category.focus({ preventScroll: true });
    } else if (event.key === "Enter" && !event.target.closest("button, a, summary, #help input")) {
      send();
    } else if (single[event.key]) {
      single[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  };
}
