// The page of reviews. Texts are only ever set as text, stay in this page's memory, and are never part of an address.

import { count, element, fixed, get, plain, session, start } from "/assets/shell.js";

const by = (id) => document.getElementById(id);
const VERDICTS = { safe: "safe", unsafe: "unsafe", needs_caution: "needs caution" };
const ACTIVITY_INTERVAL = 30_000;
// The claims of others end without a change of the number of open requests.
const RECHECK_INTERVAL = 15_000;
// Characters that are invisible, or that reverse the order of others. Line breaks, tabs and the joiners of scripts and emoji
// are left as they are.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const MAX_MARKS = 500;
const MAX_UNDO = 20;

let page = null; // the policies and settings
let current = null; // the request: { claim, event, tenant, policy, opinion }
let shown = null; // the turns on the page: { count, judged, from, turns }
let empty = null; // the number of open requests when there was none for this reviewer, and the time: { open, at }
let busy = false;
let queued = null; // the operation that was requested while another one ran: { work, always, claim }
let active = 0;
const given = []; // the answers that can be undone, the newest last: { claim, event, verdict, opinion }
const done = { answered: 0, skipped: 0, closed: 0 };

/** An answer of the console that is no success, with its machine-readable reason. */
class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      credentials: "same-origin",
      cache: "no-store",
      headers: { "content-type": "application/json", "x-aegis-csrf": session.csrf },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "console", "The console does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) location.assign("/login?next=%2Freview");
  if (!response.ok) throw new Refused(response.status, answer.reason ?? "", answer.error ?? `The console answers ${response.status}.`);
  return answer;
}

/** Announces something to people who do not see the page, and shows it to all. */
function say(text) {
  by("said").textContent = text;
}

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "";
}

/** The number of open requests of the chosen policy. */
function openNow() {
  return page?.policies.find((one) => one.name === by("policy").value)?.open ?? 0;
}

function progress() {
  const parts = [`${count(openNow())} open`, `this session: ${count(done.answered)} answered`, `${count(done.skipped)} skipped`];
  if (done.closed > 0) parts.push(`${count(done.closed)} closed meanwhile`);
  by("progress").textContent = parts.join(", ");
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
      try {
        const part = await post("/api/review/part", { claim: current.claim, turn: turn.index, from });
        setText(text, part.text);
        from += [...part.text].length;
        more = part.more;
        if (more > 0) label();
        else button.remove();
      } catch (error) {
        textFailed(error);
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

function toJudged() {
  const judged = by("judged");
  if (judged) {
    judged.scrollIntoView({ block: "center" });
    judged.focus({ preventScroll: true });
  } else if (current && shown) {
    readTurns(null);
  }
}

/** Reads turns of the current request. Returns false if the request was closed. */
async function readTurns(from) {
  const claim = current.claim;
  by("text-error").hidden = true;
  by("text-again").hidden = true;
  if (!page.show_text) {
    by("text-error").textContent = "Texts are not shown: console.show_text is false.";
    by("text-error").hidden = false;
    return true;
  }
  try {
    const turns = await post("/api/review/turns", { claim, from });
    if (current?.claim !== claim) return true;
    shown = turns;
    drawTurns();
    if (from === null) toJudged();
    return true;
  } catch (error) {
    return textFailed(error);
  }
}

function textFailed(error) {
  if (error.status === 409) return false;
  by("text-error").textContent = sentence(error.message);
  by("text-error").hidden = false;
  by("text-again").hidden = false;
  return true;
}

function drawOpinion(target, opinion) {
  const per = opinion.categories.map((one) => `${plain(one.slug)} ${fixed(one.score, 2)}`).join(", ");
  const p = opinion.probability === null ? "no expert was awake" : `p ${fixed(opinion.probability)}, threshold ${fixed(opinion.threshold)}`;
  const facts = [
    ["Experts", p],
    ["Action", opinion.action],
    ["Asked because", opinion.reasons.join(", ").replaceAll("_", " ")],
  ];
  if (per) facts.push(["Categories", per]);
  target.replaceChildren(element("dl", { class: "facts" },
    ...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })])));
}

function clearDesk() {
  current = null;
  shown = null;
  by("turns").replaceChildren();
  by("answer").reset();
  by("send-error").textContent = "";
  by("opinion").hidden = true;
}

function drawRequest(request) {
  clearDesk();
  current = request;
  active = Date.now();
  by("empty").hidden = true;
  by("desk").hidden = false;
  by("event").textContent = plain(request.event);
  by("tenant").textContent = plain(request.tenant);
  const note = page.policies.find((one) => one.name === request.policy)?.note;
  by("note").textContent = note ?? "";
  by("note").hidden = !note;
  by("opinion").hidden = !request.opinion;
  if (request.opinion) drawOpinion(by("opinion"), request.opinion);
}

function drawEmpty(text, open) {
  clearDesk();
  by("desk").hidden = true;
  by("empty").hidden = false;
  by("empty-text").textContent = text;
  by("unskip").hidden = !(open > 0 && done.skipped > 0);
}

/** Shows the next request, and announces it after `before`. Without it, only a change is announced. */
async function next(before = "") {
  const policy = by("policy").value;
  let said = before;
  empty = null;
  const none = (text, detail, open) => {
    drawEmpty(`${text}${detail}`, open);
    const announced = `${said} ${text}`.trim();
    if (said || by("said").textContent !== announced) say(announced);
  };
  for (;;) {
    let answer;
    try {
      answer = await post("/api/review/next", { policy });
    } catch (error) {
      // What is refused stays refused for a while.
      if (error.status === 409) empty = { open: openNow(), at: Date.now() };
      none(sentence(error.message), "", 0);
      return;
    }
    if (answer.state === "loading") {
      none("The review queue is being read.", " This page continues by itself.", 0);
      return;
    }
    if (answer.state === "empty") {
      const others = answer.open > 0 ? ` ${count(answer.open)} are open that you have skipped or answered, or that others have.` : "";
      empty = { open: answer.open, at: Date.now() };
      none("There is nothing to review.", others, answer.open);
      return;
    }
    drawRequest(answer);
    setOpen(answer.open);
    if (await readTurns(null)) {
      say(`${said} Next request.`);
      return;
    }
    done.closed += 1;
    said = `${before} A request was closed, because its text is gone.`;
  }
}

function setOpen(open) {
  const policy = page.policies.find((one) => one.name === by("policy").value);
  if (policy) policy.open = open;
  progress();
}

/**
 * Runs one operation at a time. The last one that was requested meanwhile runs next, if the page shows the same request
 * then or if it is `always` meant.
 */
async function once(work, always = false) {
  if (busy) {
    queued = { work, always, claim: current?.claim };
    return;
  }
  busy = true;
  by("send").disabled = true;
  try {
    await work();
  } finally {
    busy = false;
    by("send").disabled = false;
  }
  const following = queued;
  queued = null;
  if (following && (following.always || following.claim === current?.claim)) await once(following.work, following.always);
}

async function send() {
  const form = new FormData(by("answer"));
  const verdict = form.get("verdict");
  if (!current || !verdict) {
    by("send-error").textContent = "Choose a verdict first.";
    return;
  }
  by("send-error").textContent = "";
  try {
    const answer = await post("/api/review/answer", { claim: current.claim, verdict, categories: form.getAll("category") });
    done.answered += 1;
    given.push({ claim: current.claim, event: current.event, verdict: answer.verdict, opinion: answer.opinion });
    if (given.length > MAX_UNDO) given.shift();
    by("undo-error").textContent = "";
    drawLast();
    setOpen(answer.open);
    await next(`Sent: ${VERDICTS[answer.verdict]}.`);
  } catch (error) {
    await failed(error, "Your choice is kept: send it again.");
  }
}

function drawLast() {
  const last = given.at(-1);
  by("last").hidden = !last;
  if (!last) return;
  by("last-verdict").textContent = `You answered ${VERDICTS[last.verdict]} to event ${plain(last.event)}.`;
  drawOpinion(by("last-opinion"), last.opinion);
}

/** A choice that could not be sent stays on the page. One that is not needed any more does not. `hint` says what to do. */
async function failed(error, hint) {
  if (error.status === 409) {
    done.closed += 1;
    await next(sentence(error.message));
    by("send-error").textContent = sentence(error.message);
    return;
  }
  by("send-error").textContent = `${sentence(error.message)} ${hint}`;
}

async function skip() {
  if (!current) return;
  try {
    await post("/api/review/skip", { claim: current.claim });
    done.skipped += 1;
    await next("Skipped.");
  } catch (error) {
    await failed(error, "Skip the request again.");
  }
  progress();
}

async function undo() {
  const last = given.at(-1);
  if (!last) return;
  by("undo-error").textContent = "";
  try {
    // The answer is named, so that a repetition does not retract the one before it.
    const back = await post("/api/review/undo", { claim: last.claim });
    given.pop();
    done.answered = Math.max(0, done.answered - 1);
    drawLast();
    if (back.state === "request") {
      drawRequest(back);
      setOpen(back.open);
      await readTurns(null);
      say("Your last answer is retracted. The request is back.");
    } else {
      await next("Your last answer is retracted.");
    }
  } catch (error) {
    if (error.status === 409) {
      given.pop();
      drawLast();
    }
    const hint = error.status === 409 ? "" : " It is not certain that your answer is retracted: undo it again.";
    by("undo-error").textContent = `${sentence(error.message)}${hint}`;
  }
  progress();
}

/** Reports that the reviewer is active, which extends the claim. */
async function keep() {
  if (!current || busy || Date.now() - active < ACTIVITY_INTERVAL) return;
  active = Date.now();
  try {
    await post("/api/review/activity", { claim: current.claim });
  } catch (error) {
    if (error.status === 409) by("send-error").textContent = sentence(error.message);
  }
}

function drawCategories() {
  const boxes = page.taxonomy.map((one, at) => element("label", { class: "choice" },
    element("input", { type: "checkbox", name: "category", value: one.slug, "aria-keyshortcuts": at < 9 ? String(at + 1) : null }),
    ` ${plain(one.name)} `,
    at < 9 ? element("kbd", { text: String(at + 1) }) : null));
  by("category-list").replaceChildren(...boxes);
  by("categories").hidden = boxes.length === 0;
}

function drawPolicies() {
  const select = by("policy");
  const chosen = select.value || new URLSearchParams(location.search).get("policy") || page.policies[0]?.name;
  select.replaceChildren(...page.policies.map((one) => element("option", { value: one.name, text: one.name })));
  if (page.policies.some((one) => one.name === chosen)) select.value = chosen;
}

const KEYS = {
  s: () => choose("safe"),
  u: () => choose("unsafe"),
  c: () => choose("needs_caution"),
  x: () => once(skip),
  z: () => once(undo),
  j: toJudged,
  "?": () => { by("help").open = !by("help").open; },
};

function choose(verdict) {
  const radio = by("answer").querySelector(`input[value="${verdict}"]`);
  if (by("desk").hidden) return;
  radio.checked = true;
  radio.focus({ preventScroll: true });
}

function onKey(event) {
  keep();
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
    once(send);
  } else if (KEYS[event.key]) {
    KEYS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

function listen() {
  by("answer").addEventListener("submit", (event) => {
    event.preventDefault();
    once(send);
  });
  by("skip").addEventListener("click", () => once(skip));
  by("undo").addEventListener("click", () => once(undo));
  by("unskip").addEventListener("click", () => once(async () => {
    try {
      await post("/api/review/unskip", {});
    } catch (error) {
      by("empty-text").textContent = sentence(error.message);
      return;
    }
    await next();
  }));
  by("policy").addEventListener("change", () => once(() => next(), true));
  by("earlier").addEventListener("click", () => shown && readTurns(Math.max(0, shown.from - 40)));
  by("later").addEventListener("click", () => shown && readTurns(shown.from + shown.turns.length));
  by("to-judged").addEventListener("click", toJudged);
  by("text-again").addEventListener("click", () => current && readTurns(null));
  document.addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", keep);
  document.addEventListener("scroll", keep, { capture: true, passive: true });
}

async function load() {
  const first = page === null;
  page = await get("/api/review");
  if (first) {
    drawPolicies();
    drawCategories();
    listen();
    if (!page.reviewer) drawEmpty("Your role is viewer: only a reviewer can review.", 0);
  }
  progress();
  if (page.reviewer && !current && !busy && mayHaveRequest()) await once(() => next());
}

/** Returns true if there may be a request for this reviewer by now. */
function mayHaveRequest() {
  return empty === null || empty.open !== openNow() || (empty.open > 0 && Date.now() - empty.at >= RECHECK_INTERVAL);
}

start(load);
