// The page of reviews. Texts are only ever set as text, stay in this page's memory, and are never part of an address.

import { by, count, element, fixed, get, plain, post, sentence, start } from "/assets/shell.js";
import { drawCategories, keyboard } from "/assets/review-keys.js";
import { beginText, clearText, earlierTurns, laterTurns, onClosed, readTurns, showTurns, toJudged } from "/assets/review-text.js";

const VERDICTS = { safe: "safe", unsafe: "unsafe", needs_caution: "needs caution" };
const ACTIVITY_INTERVAL = 30_000;
// The claims of others end without a change of the number of open requests.
const RECHECK_INTERVAL = 15_000;
const MAX_UNDO = 20;

let page = null; // the policies and settings
let current = null; // the request: { claim, event, tenant, policy, opinion }
let empty = null; // if there was no request for this reviewer: the counts of open ones then, and the time: { open, others, at }
let busy = false;
let queued = null; // the operation that was requested while another one ran: { work, always, claim }
let active = 0;
const given = []; // the answers that can be undone, the newest last: { claim, event, verdict, opinion }
const done = { answered: 0, skipped: 0, closed: 0 };

/** Announces something to people who do not see the page, and shows it to all. */
function say(text) {
  by("said").textContent = text;
}

/** The number of open requests of the chosen policy, which the console counts for this reviewer. */
function openNow() {
  return page?.policies.find((one) => one.name === by("policy").value)?.open ?? 0;
}

function progress() {
  const parts = [`${count(openNow())} open`, `this session: ${count(done.answered)} answered`, `${count(done.skipped)} skipped`];
  if (done.closed > 0) parts.push(`${count(done.closed)} closed meanwhile`);
  by("progress").textContent = parts.join(", ");
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
  clearText();
  by("answer").reset();
  by("send-error").textContent = "";
  by("opinion").hidden = true;
}

function drawRequest(request) {
  clearDesk();
  current = request;
  beginText(request.claim, page.show_text);
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
      if (error.status === 409) empty = { open: openNow(), others: openNow(), at: Date.now() };
      none(sentence(error.message), "", 0);
      return;
    }
    if (answer.state === "loading") {
      none("The review queue is being read.", " This page continues by itself.", 0);
      return;
    }
    if (answer.state === "empty") {
      const others = answer.others > 0 ? ` ${count(answer.others)} are open that you have skipped or answered, or that others have.` : "";
      setOpen(answer.open);
      empty = { open: answer.open, others: answer.others, at: Date.now() };
      none("There is nothing to review.", others, answer.others);
      return;
    }
    drawRequest(answer);
    setOpen(answer.open);
    const refusal = await readTurns(null);
    if (!refusal) {
      say(`${said} Next request.`);
      return;
    }
    done.closed += 1;
    said = `${before} ${sentence(refusal.message)}`;
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
      const refusal = await readTurns(null);
      if (refusal) {
        done.closed += 1;
        await next(`Your last answer is retracted. ${sentence(refusal.message)}`);
      } else {
        say("Your last answer is retracted. The request is back.");
      }
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

function drawPolicies() {
  const select = by("policy");
  const chosen = select.value || new URLSearchParams(location.search).get("policy") || page.policies[0]?.name;
  select.replaceChildren(...page.policies.map((one) => element("option", { value: one.name, text: one.name })));
  if (page.policies.some((one) => one.name === chosen)) select.value = chosen;
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
  by("earlier").addEventListener("click", earlierTurns);
  by("later").addEventListener("click", laterTurns);
  by("to-judged").addEventListener("click", toJudged);
  by("text-again").addEventListener("click", () => current && showTurns(null));
  onClosed((refusal) => once(() => failed(refusal, "")));
  const keys = { active: keep, send: () => once(send), skip: () => once(skip), undo: () => once(undo) };
  document.addEventListener("keydown", keyboard(keys));
  document.addEventListener("pointerdown", keep);
  document.addEventListener("scroll", keep, { capture: true, passive: true });
}

async function load() {
  const first = page === null;
  page = await get("/api/review");
  if (first) {
    drawPolicies();
    drawCategories(page.taxonomy);
    listen();
    if (!page.reviewer) drawEmpty("Your role is viewer: only a reviewer can review.", 0);
  }
  progress();
  if (page.reviewer && !current && !busy && mayHaveRequest()) await once(() => next());
}

/** Returns true if there may be a request for this reviewer by now. */
function mayHaveRequest() {
  return empty === null || empty.open !== openNow() || (empty.others > 0 && Date.now() - empty.at >= RECHECK_INTERVAL);
}

start(load);
