import { count, duration, element, fixed, get, percent, plain, replace, start, table, time } from "/assets/shell.js";
import { share, signed } from "/assets/charts.js";

const main = document.getElementById("main");
const list = element("div", { id: "list" });
const why = element("aside", { id: "why", "aria-label": "Why", tabindex: "-1", hidden: true });
const form = element("form", { class: "filters", "aria-label": "Filters" });
const wanted = { policy: "", action: "", category: "", language: "" };
let open = null;
let shown = "";

function badge(action) {
  return element("span", { class: `badge action-${action}`, text: action });
}

function filters(data) {
  const choices = { policy: data.policies, action: data.actions, category: data.categories, language: data.languages };
  for (const [name, values] of Object.entries(choices)) {
    let select = document.getElementById(`filter-${name}`);
    if (!select) {
      select = element("select", { id: `filter-${name}`, name, change: () => {
        wanted[name] = select.value;
        remember();
        refresh();
      } });
      form.append(element("label", { for: `filter-${name}`, text: name }), select);
    }
    const all = ["", ...values];
    if (wanted[name] && !all.includes(wanted[name])) all.push(wanted[name]);
    if (select.dataset.values === JSON.stringify(all)) continue;
    select.dataset.values = JSON.stringify(all);
    select.replaceChildren(...all.map((value) => element("option", { value, text: value || "all", selected: value === wanted[name] })));
  }
}

/** Keeps filters and the open decision in the address, so that it can be sent to others. */
function remember() {
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  if (open) query.set("at", open);
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}

function rows(decisions) {
  return decisions.map((one) => {
    const at = `${one.partition}:${one.offset}`;
    const button = element("button", { type: "button", class: "link", "aria-pressed": String(open === at), "aria-controls": "why", "data-at": at, text: one.event, click: () => explain(at, true) });
    return [
      button,
      time(one.time),
      badge(one.action),
      element("span", { class: "with-bar" }, share(one.probability, one.threshold), element("span", { text: fixed(one.probability, 3) })),
      one.category ?? "–",
      one.language,
      one.policy,
      one.reasons.length > 0 ? one.reasons.map((reason) => reason.replaceAll("_", " ")).join(", ") : "–",
    ];
  });
}

const refresh = async () => {
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  query.set("limit", "100");
  const data = await get(`/api/decisions?${query}`);
  filters(data);
  const text = JSON.stringify([data.decisions, open]);
  if (text === shown) return;
  shown = text;
  const columns = [["event"], ["time (UTC)", "number"], ["action"], ["p", "number"], ["category"], ["language"], ["policy"], ["review"]];
  const focused = document.activeElement?.dataset?.at;
  replace(list, table("The newest decisions", columns, rows(data.decisions), "No decision matches."));
  if (focused) list.querySelector(`[data-at="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
};

function facts(data) {
  const term = (name, value) => [element("dt", { text: name }), element("dd", {}, value instanceof Node ? value : element("span", { text: value }))];
  const predictor = data.predictor.ledger_offset < 0
    ? "nothing was learned yet"
    : `${data.predictor.learner}, ${count(data.predictor.rounds)} rounds, state ${data.predictor.state_hash.slice(0, 12)}${data.predictor.pinned ? ", pinned" : ""}`;
  const review = data.reasons.length === 0 ? "not requested" : `${data.reasons.map((reason) => reason.replaceAll("_", " ")).join(", ")}, with probability ${fixed(data.review_probability, 3)}`;
  return element("dl", { class: "facts" },
    ...term("event", data.event),
    ...term("tenant", data.tenant),
    ...term("language", data.language),
    ...term("policy", `${data.policy}, version ${data.policy_version}`),
    ...term("p", `${fixed(data.probability, 4)}, threshold ${fixed(data.threshold, 4)}`),
    ...term("review", review),
    ...term("predictor", predictor),
    ...term("decided", time(data.time)),
    ...term("took", duration(data.latency_micros / 1000)),
    ...term("decision", `${data.topic} ${data.partition}:${data.offset}`),
    ...term("message", `${data.source.topic} ${data.source.partition}:${data.source.offset}`),
    ...(data.hidden_text.length > 0 ? term("hidden text", data.hidden_text.join(", ").replaceAll("_", " ")) : []));
}

function reason(data) {
  if (data.nothing_to_judge) return "There is nothing to judge, and the policy determines the action.";
  if (data.probability === null) return "No expert was awake.";
  const side = data.probability >= data.threshold ? "at or above" : "below";
  return `p ${fixed(data.probability, 4)} is ${side} the threshold ${fixed(data.threshold, 4)}.`;
}

function flip(computed) {
  if (!computed) return "The predictor of this decision is no longer in the console's memory. aegis explain looks in the topic.";
  if (!computed.same) return "p cannot be reproduced: the features or the seed are not available.";
  const read = Number.isFinite(computed.without_features)
    ? ` The members that read the text add ${fixed(computed.probability - computed.without_features, 4)}.` : "";
  const change = computed.flip;
  if (!change) return `No single vote could move p to the other side of the threshold.${read}`;
  return `It would flip if ${plain(change.expert)} voted ${fixed(change.to, 3)} instead of ${fixed(change.from, 3)}: p would be ${fixed(change.probability, 4)}.${read}`;
}

function votes(data) {
  const greatest = Math.max(0, ...data.votes.map((vote) => Math.abs(vote.contribution)));
  const rows = [...data.votes].sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution) || b.weight - a.weight).map((vote) => {
    const also = [vote.shadow && "shadow", vote.truncated && "read a part", vote.windows > 1 && `${vote.windows} windows`, vote.cached && "cached", vote.explored && "drawn", vote.decisive && "decisive", vote.abstention && `abstained: ${vote.abstention.replaceAll("_", " ")}`];
    return [
      vote.expert,
      vote.score === null ? "–" : element("span", { class: "with-bar" }, share(vote.score, 0.5), element("span", { text: fixed(vote.score, 3) })),
      fixed(vote.weight, 3),
      element("span", { class: "with-bar" }, signed(vote.contribution, greatest), element("span", { text: `${vote.contribution >= 0 ? "+" : "−"}${fixed(Math.abs(vote.contribution), 3)}` })),
      also.filter(Boolean).join(", ") || "–",
    ];
  });
  return table("Votes", [["expert"], ["vote", "number"], ["weight", "number"], ["contribution", "number"], ["also"]], rows, "No expert was asked.");
}

function categories(data) {
  const rows = [...data.categories].sort((a, b) => b.score - a.score).slice(0, 8)
    .map((one) => [one.category, element("span", { class: "with-bar" }, share(one.score), element("span", { text: percent(one.score, 1) }))]);
  return rows.length === 0 ? null : table("Categories", [["category"], ["greatest score", "number"]], rows, "");
}

/** Shows why a decision was made. */
async function explain(at, focus) {
  open = at;
  remember();
  for (const button of list.querySelectorAll("[data-at]")) button.setAttribute("aria-pressed", String(button.dataset.at === at));
  const [partition, offset] = at.split(":").map((part) => encodeURIComponent(part));
  why.hidden = false;
  try {
    const data = await get(`/api/decisions/${partition}/${offset}`);
    if (open !== at) return;
    why.replaceChildren(
      element("div", { class: "title" }, element("h2", {}, element("span", { text: "Why " }), badge(data.action)),
        element("button", { type: "button", class: "quiet", text: "Close", click: close })),
      element("p", { text: reason(data) }),
      element("p", { id: "flip", text: flip(data.computed) }),
      votes(data),
      categories(data) ?? "",
      facts(data));
  } catch (error) {
    if (open !== at) return;
    why.replaceChildren(element("div", { class: "title" }, element("h2", { text: "Why" }),
      element("button", { type: "button", class: "quiet", text: "Close", click: close })), element("p", { text: error.message }));
  }
  if (focus) why.focus();
}

function close() {
  const at = open;
  open = null;
  why.hidden = true;
  why.replaceChildren();
  remember();
  for (const button of list.querySelectorAll("[data-at]")) {
    button.setAttribute("aria-pressed", "false");
    if (button.dataset.at === at) button.focus();
  }
}

why.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
});
const query = new URLSearchParams(location.search);
for (const name of Object.keys(wanted)) wanted[name] = query.get(name) ?? "";
main.append(element("h1", { text: "Decisions" }), form, element("div", { class: "split" }, list, why));
form.addEventListener("submit", (event) => event.preventDefault());
start(refresh).then(() => {
  const at = query.get("at");
  if (at && /^\d+:\d+$/.test(at)) explain(at, false);
});
