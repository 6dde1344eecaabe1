import { count, duration, element, fixed, get, percent, replace, start, table, time } from "/assets/shell.js";
import { bars } from "/assets/charts.js";

const main = document.getElementById("main");

/** Returns a figure with its name and a remark. */
function figure(name, value, remark, kind = "") {
  return element("div", { class: `figure ${kind}` },
    element("dt", { text: name }),
    element("dd", {}, element("span", { class: "value", text: value }), element("span", { class: "remark", text: remark ?? "" })));
}

function figures(data) {
  const rates = data.rates;
  const total = rates.allow + rates.block + rates.review;
  const all = data.totals.allow + data.totals.block + data.totals.review;
  const score = data.lag?.find((lag) => lag.role === "score");
  const learn = data.lag?.find((lag) => lag.role === "learn");
  const share = (name) => (all > 0 ? percent(data.totals[name] / all, 1) : "–");
  const delay = data.label_delay;
  const lag = (group) => (group ? (group.messages === null ? "no commits yet" : `${count(group.messages)} records`) : "–");
  const waits = data.oldest_millis;
  return element("dl", { class: "figures" },
    figure("Decisions a second", fixed(total, total < 10 ? 2 : 0), `${count(all)} in ${data.hours} h`),
    figure("Allow", fixed(rates.allow, rates.allow < 10 ? 2 : 0), share("allow"), "allow"),
    figure("Block", fixed(rates.block, rates.block < 10 ? 2 : 0), share("block"), "block"),
    figure("Review", fixed(rates.review, rates.review < 10 ? 2 : 0), share("review"), "review"),
    figure("Oldest undecided event", waits === null ? "none" : duration(waits), score ? `lag of score: ${lag(score)}` : "", waits > 60000 ? "alarm" : ""),
    figure("Labels", count(data.labels), `lag of learn: ${lag(learn)}`),
    figure("Label delay", delay ? duration(delay.median) : "–", delay ? `nine of ten within ${duration(delay.p90)}` : "no label yet"),
    figure("Dead letters", count(data.dead_letters_total), `in ${data.hours} h`, data.dead_letters_total > 0 ? "alarm" : ""));
}

function charts(chart) {
  const named = (name, values = chart[name.replace(" ", "_")]) => ({ name, values });
  const key = (names) => element("p", { class: "key" }, ...names.map((name) =>
    element("span", { class: `swatch series-${name.replace(" ", "-")}`, text: name })));
  const minutes = chart.step / 60000;
  const unit = minutes === 1 ? "each minute" : `each ${minutes} minutes`;
  return element("section", { "aria-labelledby": "charts" },
    element("h2", { id: "charts", text: "The last hours" }),
    element("div", { class: "charts" },
      element("figure", {},
        element("figcaption", {}, element("span", { text: `Decisions, ${unit}` }), key(["allow", "review", "block"])),
        bars("Decisions", unit, chart.from, chart.step, [named("allow"), named("review"), named("block")])),
      element("figure", {},
        element("figcaption", {}, element("span", { text: `Labels and dead letters, ${unit}` }), key(["labels", "dead letters"])),
        bars("Labels and dead letters", unit, chart.from, chart.step, [named("labels"), named("dead letters", chart.dead_letters)]))));
}

function learning(data) {
  const rows = data.learning.map((one) => [
    one.policy,
    one.learner ?? "–",
    count(one.rounds),
    time(one.published),
    fixed(one.regret, 2),
    fixed(one.bound, 2),
    one.regret !== null && one.bound > 0 ? (one.regret <= one.bound ? "within" : "ABOVE") : "–",
  ]);
  const columns = [["policy"], ["learner"], ["rounds", "number"], ["published (UTC)", "number"], ["regret", "number"], ["its bound", "number"], ["state"]];
  const hint = data.has_metrics || rows.length === 0 ? null : element("p", { class: "hint", text: "Regret and its bound are metrics of the learner: set console.metrics to its address." });
  return element("section", { "aria-labelledby": "learning" },
    element("h2", { id: "learning", text: "Learning" }),
    table("Predictors by policy", columns, rows, "No predictor is published yet: every expert has the same weight."), hint);
}

function estimates(data) {
  if (data.estimates.length === 0) return null;
  const names = ["recall", "precision", "prevalence"];
  const rows = data.estimates.map((one) => [one.policy, ...names.map((name) => {
    const found = one.figures.find((figure) => figure.figure === name);
    if (!found) return "–";
    const interval = found.low === null || found.high === null ? "" : ` (${percent(found.low, 1)} to ${percent(found.high, 1)})`;
    return `${percent(found.value, 1)}${interval}`;
  }), one.alarms.length === 0 ? "none" : one.alarms.map((name) => name.replaceAll("_", " ")).join(", ")]);
  return element("section", { "aria-labelledby": "estimates" },
    element("h2", { id: "estimates", text: "What people's labels say" }),
    table("Estimates with 95 % intervals", [["policy"], ...names.map((name) => [name, "number"]), ["alarms"]], rows, ""));
}

function letters(data) {
  const rows = data.dead_letters.slice(0, 8).map((one) => [one.reason, one.stage, count(one.count), time(one.newest)]);
  return element("section", { "aria-labelledby": "letters" },
    element("h2", { id: "letters", text: "Dead letters" }),
    table("Dead letters by reason", [["reason"], ["role"], ["count", "number"], ["newest (UTC)", "number"]], rows, "None: every record was processed."));
}

start(async () => {
  const data = await get("/api/overview");
  const parts = [figures(data), estimates(data), charts(data.chart), learning(data), letters(data)];
  replace(main, element("h1", { text: "Overview" }), ...parts.filter((part) => part !== null));
});
