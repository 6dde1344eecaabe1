import { count, element, get, replace, start, table, time } from "/assets/shell.js";

const main = document.getElementById("main");

let shown = "";
start(async () => {
  const data = await get("/api/dead-letters");
  const text = JSON.stringify(data);
  if (text === shown) return;
  shown = text;
  const reasons = data.reasons.map((one) => [one.reason, one.stage, count(one.count), time(one.newest)]);
  const newest = data.newest.map((one) => [
    `${one.partition}:${one.offset}`,
    one.reason,
    one.stage,
    one.origin ? `${one.origin[0]} ${one.origin[1]}:${one.origin[2]}` : "–",
    time(one.time),
    one.replayable ? "yes" : "no",
    one.message,
  ]);
  replace(main,
    element("h1", { text: "Dead letters" }),
    element("p", {}, element("span", { text: "Records that could not be processed. Their content is on the topic " }), element("code", { text: data.topic }),
      element("span", { text: " and never shown here: " }), element("code", { text: "aegis dlq show" }), element("span", { text: " prints one, and " }),
      element("code", { text: "aegis dlq replay" }), element("span", { text: " puts them back once the cause is fixed." })),
    element("h2", { text: "By reason" }),
    table("Dead letters by reason", [["reason"], ["role"], ["count", "number"], ["newest (UTC)", "number"]], reasons, "None: every record was processed."),
    element("h2", { text: "The newest" }),
    table("The newest dead letters", [["position", "number"], ["reason"], ["role"], ["original"], ["time (UTC)", "number"], ["replayable"], ["error"]], newest, "None."));
});
