import { count, element, fixed, get, percent, plain, replace, start, table } from "/assets/shell.js";
import { share } from "/assets/charts.js";

const main = document.getElementById("main");
const chosen = () => new URLSearchParams(location.search).get("policy") ?? "";

function badge(text, kind) {
  return element("span", { class: `badge ${kind}`, text });
}

function number(value, text) {
  return element("span", { class: "with-bar" }, share(value), element("span", { text }));
}

function reasons(all) {
  if (all.length === 0) return "–";
  return all.map((one) => `${one.reason.replaceAll("_", " ")} ${count(one.count)}`).join(", ");
}

function rows(data) {
  const sorted = [...data.experts].sort((a, b) => Number(a.shadow) - Number(b.shadow) || b.weight - a.weight || a.expert.localeCompare(b.expert));
  const kinds = { ok: "good", "partly failing": "warn", failing: "bad", down: "bad" };
  return sorted.map((one) => {
    const agreement = one.agreement;
    return [
      element("span", {}, element("span", { text: one.expert }), one.shadow ? badge("shadow", "plain") : ""),
      one.shadow ? "–" : number(one.weight, fixed(one.weight, 3)),
      badge(one.health, kinds[one.health] ?? "plain"),
      count(one.votes),
      one.votes > 0 ? percent(one.flagged / one.votes, 1) : "–",
      agreement ? fixed(agreement.brier, 3) : "–",
      agreement ? percent(agreement.agreed / agreement.labels, 1) : "–",
      count(agreement?.labels ?? 0),
      reasons(one.abstentions),
    ];
  });
}

// The selector is never replaced, because it may be open.
const select = element("select", { id: "policy", name: "policy", change: () => {
  history.replaceState(null, "", `?policy=${encodeURIComponent(select.value)}`);
  refresh();
} });
const form = element("form", { class: "filters", hidden: true }, element("label", { for: "policy", text: "Policy" }), select);
const title = element("h1", { text: "Experts" });
const body = element("div");

function drawPolicies(data) {
  form.hidden = data.policies.length < 2;
  const all = JSON.stringify(data.policies);
  if (select.dataset.values !== all) {
    select.dataset.values = all;
    select.replaceChildren(...data.policies.map((policy) => element("option", { value: policy, text: policy })));
  }
  // A response to an earlier choice does not change the selector.
  if (data.policy && (chosen() === data.policy || !data.policies.includes(chosen()))) select.value = data.policy;
}

let shown = "";
const refresh = async () => {
  const data = await get(`/api/experts?policy=${encodeURIComponent(chosen())}`);
  const text = JSON.stringify(data);
  if (text === shown) return;
  shown = text;
  const columns = [["expert"], ["weight", "number"], ["health"], ["votes", "number"], ["flags", "number"], ["Brier", "number"], ["agrees", "number"], ["labels", "number"], ["abstentions"]];
  const ensemble = data.ensemble;
  const together = ensemble
    ? `Together they agree with people on ${percent(ensemble.agreed / ensemble.labels, 1)} of ${count(ensemble.labels)} labelled events, with a Brier score of ${fixed(ensemble.brier, 3)}.`
    : "No event of the last hours has a label yet.";
  const members = data.members.length === 0 ? [] : [
    element("h2", { text: "Members that are learners" }),
    table("Members of the aggregation that are no experts", [["member"], ["weight", "number"]],
      [...data.members].sort((a, b) => b.weight - a.weight).map((one) => [one.member, number(one.weight, fixed(one.weight, 3))]), ""),
  ];
  title.textContent = data.policy ? `Experts of policy ${plain(data.policy)}` : "Experts";
  drawPolicies(data);
  replace(body,
    element("p", { text: together }),
    table("Experts", columns, rows(data), "No decision has been read yet."),
    element("p", { class: "hint", text: "Weight: the expert's own share of the aggregation in the newest decision; most of the mass can lie with the members below. Brier: the mean squared error against labels, 0 is best. Agrees: the share of labelled votes on the same side of 0.5 as people. An expert in shadow votes and has no weight." }),
    ...members);
};

form.addEventListener("submit", (event) => event.preventDefault());
main.append(title, form, body);
start(refresh);
