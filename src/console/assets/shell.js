// What all pages share: the session, requests, the navigation, live updates, and safe text.

/** The time without a connection after which the page says so. */
const ALARM_DELAY = 5000;
const NAVIGATION = [
  ["/", "Overview"],
  ["/experts", "Experts"],
  ["/decisions", "Decisions"],
  ["/dead-letters", "Dead letters"],
  ["/review", "Review"],
];

/** The session: { name, role, csrf, login, show_text }. It is set once `start` has returned. */
export let session = null;

// Characters that are invisible or change the order of others are shown by their code, so that no name can disguise itself.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Returns the element with this id. */
export const by = (id) => document.getElementById(id);

/** Returns a text as a sentence: with a capital letter, and with a full stop unless it has an end. */
export function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "";
}

/** Returns a name as it may be shown in one line. */
export function plain(value) {
  const code = (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`;
  return String(value ?? "").replace(HIDDEN, code);
}

/**
 * Creates an element. `options` are attributes; `text` is its text, `class` its classes, and functions are event handlers.
 * Text is only ever set as text, never as HTML.
 */
export function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") made.textContent = plain(value);
    else if (key === "class") made.className = value;
    else if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An error of a request, with its status; 0 if there was no response. */
export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new RequestError(0, "The console does not answer.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.status === 401 && location.pathname !== "/login") {
    const next = location.pathname + location.search;
    location.assign(`/login?next=${encodeURIComponent(next)}`);
  }
  if (!response.ok) throw new RequestError(response.status, body.error ?? `The console answers ${response.status}.`);
  return body;
}

/** Reads JSON. */
export const get = (path) => request(path, {});

/** Sends JSON, with the token that proves that the request comes from this page. */
export function post(path, body) {
  const headers = { "content-type": "application/json", "x-aegis-csrf": session?.csrf ?? "login" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Shows a message above the page, or removes it. */
export function notice(id, text, kind = "warning") {
  const area = document.getElementById("notices");
  let shown = document.getElementById(id);
  if (!text) {
    shown?.remove();
    return;
  }
  if (!shown) {
    shown = element("p", { id, class: `notice ${kind}` });
    area.append(shown);
  }
  if (shown.textContent !== plain(text)) shown.textContent = plain(text);
}

/** Returns a time span in words, such as "4 min". */
export function duration(millis) {
  if (millis === null || millis === undefined) return "–";
  const seconds = Math.max(0, millis) / 1000;
  if (seconds < 1) return `${Math.round(millis)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Returns a count with its digits grouped. */
export const count = (value) => (value === null || value === undefined ? "–" : grouped.format(value));

/** Returns a number with a fixed number of digits behind the point. */
export const fixed = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

/** Returns a share as per cent. */
export const percent = (value, digits = 0) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)} %` : "–");

/** Returns a time element: the clock for today, else with the date. */
export function time(millis) {
  if (millis === null || millis === undefined) return element("span", { text: "–" });
  const at = new Date(millis);
  const iso = Number.isNaN(at.getTime()) ? "" : at.toISOString();
  const today = iso.slice(0, 10) === new Date().toISOString().slice(0, 10);
  const text = today ? iso.slice(11, 19) : iso.slice(0, 16).replace("T", " ");
  return element("time", { datetime: iso, title: `${iso} (UTC)`, text });
}

/** Returns a table. A column is [title, kind], where the kind "number" aligns right; a row is a list of nodes or texts. */
export function table(caption, columns, rows, empty) {
  const cell = (name, value, kind, scope) => {
    const made = element(name, { class: kind ?? "", scope });
    if (value instanceof Node) made.append(value);
    else made.textContent = plain(value);
    return made;
  };
  const head = element("tr", {}, ...columns.map(([title, kind]) => cell("th", title, kind, "col")));
  const body = rows.map((row) => {
    const cells = row.map((value, at) =>
      at === 0 ? cell("th", value, columns[at][1], "row") : cell("td", value, columns[at][1]));
    return element("tr", {}, ...cells);
  });
  if (rows.length === 0) {
    const only = cell("td", empty, "empty");
    only.setAttribute("colspan", String(columns.length));
    body.push(element("tr", {}, only));
  }
  const made = element("table", {}, element("caption", { text: caption }), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

/** Replaces the children of an element, and keeps the scroll position of a table in it and the focus. */
export function replace(target, ...children) {
  const regions = [...target.querySelectorAll(".scroll")];
  const left = new Map(regions.map((region) => [region.getAttribute("aria-label"), region.scrollLeft]));
  const focused = document.activeElement?.closest?.(".scroll")?.getAttribute("aria-label");
  target.replaceChildren(...children);
  for (const region of target.querySelectorAll(".scroll")) {
    const label = region.getAttribute("aria-label");
    region.scrollLeft = left.get(label) ?? 0;
    if (focused && label === focused) region.focus({ preventScroll: true });
  }
}

function header() {
  const links = NAVIGATION.map(([path, title]) => {
    const here = location.pathname === path;
    return element("li", {}, element("a", { href: path, text: title, "aria-current": here ? "page" : null }));
  });
  const leave = async () => {
    await post("/api/logout", {}).catch(() => {});
    location.assign("/login");
  };
  const who = element("div", { class: "who" },
    element("span", { id: "live", class: "live", role: "status", text: "connecting" }),
    element("span", { class: "user", text: session.name, title: `role: ${session.role}` }),
    session.login ? element("button", { type: "button", class: "quiet", text: "Log out", click: leave }) : null);
  const made = element("header", { class: "bar" },
    element("a", { class: "skip", href: "#main", text: "Skip to content" }),
    element("a", { class: "brand", href: "/", text: "Aegis" }),
    element("nav", { "aria-label": "Pages" }, element("ul", {}, ...links)),
    who);
  document.body.prepend(made);
  const main = document.getElementById("main");
  main.before(element("div", { id: "notices", role: "status", "aria-live": "polite" }));
}

function showBroker(broker) {
  const live = document.getElementById("live");
  const text = broker.ok ? "live" : broker.error ? "brokers away" : "reading";
  if (live.textContent !== text) live.textContent = text;
  live.className = `live ${broker.ok ? "ok" : "away"}`;
  const message = broker.error
    ? `The topics cannot be read, and the figures are those from before: ${broker.error}. This page recovers by itself.`
    : "";
  notice("broker", broker.ok ? "" : message);
}

/** Calls `refresh` whenever there is something new. A page in the background holds no connection: browsers have only six. */
function follow(refresh) {
  let events = null;
  let alarm = null;
  const connect = () => {
    events = new EventSource("/api/live");
    events.addEventListener("state", (event) => {
      clearTimeout(alarm);
      alarm = null;
      notice("load", "");
      showBroker(JSON.parse(event.data).broker);
      refresh();
    });
    events.addEventListener("error", () => {
      const live = document.getElementById("live");
      live.textContent = "reconnecting";
      live.className = "live away";
      // A connection that is replaced at once, such as one that was open for long, is no reason for an alarm.
      alarm ??= setTimeout(() => notice("load", "The console does not answer. This page tries again."), ALARM_DELAY);
      // A browser gives up after a response that is no stream of events: that of a proxy, or 401 after the session has ended,
      // for which a request leads to the login.
      if (events.readyState === EventSource.CLOSED) {
        refresh();
        setTimeout(reconnect, 3000);
      }
    });
  };
  const reconnect = () => {
    events.close();
    if (!document.hidden) connect();
  };
  document.addEventListener("visibilitychange", reconnect);
  connect();
}

/**
 * Starts a page: reads the session, draws the header, and calls `load` at once and whenever there is something new, one call
 * at a time. An error of `load` is shown, and the page recovers by itself.
 */
export async function start(load) {
  try {
    session = await get("/api/session");
  } catch (error) {
    if (error.status === 401) return;
    document.getElementById("main").textContent = error.message;
    setTimeout(() => location.reload(), 5000);
    return;
  }
  header();
  let running = false;
  let again = false;
  const refresh = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try {
        await load();
        notice("load", "");
        document.body.dataset.loaded = "true";
      } catch (error) {
        if (!(error instanceof RequestError)) console.error(error);
        notice("load", `${error.message} This page tries again.`);
      }
    } while (again);
    running = false;
  };
  await refresh();
  follow(refresh);
  return refresh;
}
