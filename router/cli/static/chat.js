// The page /chat of `psi-router dev`. Whatever was typed or stored is put in as text, never
// as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const COLUMNS = {
  conversation: ["area", "estado", "router_estado", "submenu_actual", "subetiqueta",
    "ultima_derivacion", "linea_origen", "ventana_24h_fin", "id"],
  contact: ["nombre", "telefono", "origen", "estado", "id"],
  ticket: ["area", "estado", "prioridad", "origen", "ts_abierto"],
  derivation: ["area", "subetiqueta", "inbox_destino", "status", "ticket_id"],
};
const STATES = {
  pendiente: "pendiente", sent: "✓ enviado", delivered: "✓✓ entregado", read: "✓✓ leído",
  failed: "✕ falló", no_enviado: "no enviado",
};

let person = null;   // {phone, name}
let stream = null;
let shown = {};      // what each card held before: a change is marked
let heard = new Set();  // ids of the lines on the phone

function element(name, { text, kind, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const time = (parts) => new Intl.DateTimeFormat("es-AR", { hourCycle: "h23", ...parts });
const CLOCK = time({ timeStyle: "short" });
const EXACT = time({ timeStyle: "medium" });
const DAY = time({ dateStyle: "short", timeStyle: "medium" });
const clock = (at) => CLOCK.format(new Date(at));
const exact = (at) => EXACT.format(new Date(at));

// *bold*, as WhatsApp shows it: a star at a word's edge on both sides.
function formatted(text) {
  return text.split(/(\*(?=\S)[^*\n]*\S\*|\*\S\*)/).map((part, at) =>
    at % 2 ? element("strong", { text: part.slice(1, -1) }) : part);
}

async function ask(path, body) {
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

// --- The phone

function say(said) {
  const phone = person.phone;
  ask("/chat/say", { phone, ...said }).catch((problem) => {
    if (person.phone !== phone) return;
    link(`No salió: ${problem.message}`, true);
    if (problem instanceof TypeError) $("words").value ||= said.text ?? "";  // nobody took it
  });
}

function add(line) {
  if (heard.has(line.id)) return;
  heard.add(line.id);
  const talk = $("talk");
  const item = element("div", { kind: `line ${line.from}` });
  item.append(element("span", { kind: "unseen", text: line.from === "bot" ? "PSI: " : "Vos: " }));
  item.append(element("span", {}, ...formatted(line.text)));
  item.append(element("time", { text: clock(line.at) }));
  if (line.choices) item.append(...taps(line.choices));
  talk.append(item);
  talk.scrollTop = talk.scrollHeight;
}

function taps(choices) {
  const buttons = choices.kind === "list_reply"
    ? [[`☰ ${choices.button}`, () => open(choices)]]
    : choices.rows.map((row) => [row.title, () => say({ choice: row, kind: choices.kind })]);
  return buttons.map(([text, act]) => {
    const button = element("button", { kind: "tap", type: "button", text });
    button.addEventListener("click", act);
    return button;
  });
}

function open(choices) {
  $("options-title").textContent = choices.button;
  $("rows").replaceChildren(...choices.rows.map((row) => {
    const button = element("button", { type: "button" }, element("strong", { text: row.title }));
    if (row.description) button.append(element("span", { text: row.description }));
    button.addEventListener("click", () => {
      $("options").close();
      say({ choice: row, kind: choices.kind });
    });
    return element("li", {}, button);
  }));
  $("options").showModal();
}

// --- What is stored

function show(rows) {
  const [ticket] = rows.tickets ?? [];
  const [derivation] = rows.derivations ?? [];
  card("contact", rows.contact, "Todavía nadie escribió.");
  card("conversation", rows.conversation, "Empieza con el primer mensaje.");
  card("ticket", ticket, "Todavía no hay ticket.");
  card("derivation", derivation, "Todavía la atiende el menú.");
  if (ticket) $("ticket").prepend(element("p", { kind: "big", text: ticket.ticket_id }));
  $("ticket-card").classList.toggle("open", Boolean(ticket));
  $("messages").replaceChildren(...(rows.messages ?? []).map(message));
  const told = rows.notifications ?? [];
  $("told-count").textContent = told.length ? `(${told.length})` : "";
  list("told", told.map(notification), "Todavía no se avisó nada.");
  list("audit", (rows.audit ?? []).map(audited), "Todavía sin novedades.");
}

function card(name, row, nothing) {
  const before = shown[name];
  shown[name] = row;
  if (!row?.id) {
    $(name).replaceChildren(element("p", { kind: "nothing", text: nothing }));
    return;
  }
  const pairs = COLUMNS[name].filter((column) => row[column] !== null && row[column] !== "");
  $(name).replaceChildren(element("dl", {}, ...pairs.flatMap((column) => [
    element("dt", { text: column }),
    element("dd", {
      text: column.startsWith("ts_") || column.startsWith("ventana")
        ? DAY.format(new Date(row[column])) : String(row[column]),
      kind: before && before[column] !== row[column] ? "changed" : "",
    }),
  ])));
}

function message(row) {
  return element("tr", {},
    element("td", { text: exact(row.timestamp) }),
    element("td", { text: row.direccion }),
    element("td", { text: row.remitente_nombre ?? row.remitente_tipo }),
    element("td", { text: row.mensaje.split("\n")[0], kind: "said", title: row.mensaje }),
    element("td", { text: STATES[row.estado_envio] ?? row.estado_envio ?? "✓ guardado" }));
}

function notification({ destination, at, body }) {
  const [verb, ...area] = destination.split("_");
  return element("li", {},
    element("span", { kind: `tag ${verb}`, text: `${verb.toUpperCase()} · ${area.join(" ")}` }),
    ` ${exact(at)} `,
    element("code", { text: JSON.stringify(body) }));
}

function audited(row) {
  return element("li", { text: `${exact(row.created_at)} · ${row.actor} · ${row.accion}` });
}

function list(id, items, nothing) {
  $(id).replaceChildren(...(items.length ? items : [element("li", { kind: "nothing", text: nothing })]));
}

// --- Who talks

function link(text, away = false) {
  $("link").textContent = text;
  $("link").classList.toggle("away", away);
}

function become(other) {
  person = other;
  shown = {};
  heard = new Set();
  $("talk").replaceChildren();
  show({});
  listen();
  history.replaceState(null, "", `?as=${person.phone}`);
}

function listen() {
  stream?.close();
  stream = new EventSource(`/chat/events?phone=${encodeURIComponent(person.phone)}`);
  stream.addEventListener("open", () => link("Conectado"));
  stream.addEventListener("error", (event) => {
    link("Sin conexión con psi-router dev", true);
    // The browser tries again by itself, but not after an answer that was no stream.
    if (event.target.readyState === EventSource.CLOSED && event.target === stream) setTimeout(listen, 2000);
  });
  stream.addEventListener("line", (event) => add(JSON.parse(event.data)));
  stream.addEventListener("rows", (event) => show(JSON.parse(event.data)));
}

function offer(other) {
  const known = [...$("person").options].find((option) => option.value === other.phone);
  if (!known) $("person").prepend(new Option(`${other.name} · +${other.phone}`, other.phone));
  $("person").value = other.phone;
  become(other);
}

async function start() {
  const people = await ask("/chat/people");
  for (const each of people.reverse()) offerQuietly(each);
  const wanted = new URLSearchParams(location.search).get("as");
  const known = people.find((each) => each.phone === wanted);
  if (known) offer(known);
  else if (wanted) offer(await ask("/chat/people", { phone: wanted }));
  else if (people.length) offer(people.at(-1));
  else offer(await ask("/chat/people", {}));
  $("new-person").disabled = $("send").disabled = false;
}

function offerQuietly(each) {
  $("person").prepend(new Option(`${each.name} · +${each.phone}`, each.phone));
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("words").value;
  if (!text.trim() || !person) return;
  $("words").value = "";
  say({ text });
});
$("person").addEventListener("change", (event) => {
  const [name] = event.target.selectedOptions[0].text.split(" · ");
  become({ phone: event.target.value, name });
});
$("new-person").addEventListener("click", async () => {
  offer(await ask("/chat/people", {}));
  $("words").focus();
});
$("close-options").addEventListener("click", () => $("options").close());
start().catch((problem) => link(problem.message, true));
