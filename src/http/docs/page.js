// Shows openapi.json as a page, one section a tag and one fold a route, and sends requests from it.
// Everything is built as elements, never as text that is parsed: names of models come from outside.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const MOST_SHOWN_CHARACTERS = 100_000;

// Relative, so that the page also works behind a proxy that serves it under a prefix.
const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Text in which `code` stands in backticks.
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

const identifier = (text) => text.replace(/\s+/g, "-");

// What a JSON pointer such as #/components/schemas/Error means.
function resolve(api, value) {
  const path = value?.$ref;
  if (!path) return value;
  return resolve(api, path.slice(2).split("/").reduce((found, key) => found[key], api));
}

// The same schema with references filled in, as far as a reader wants to see them.
function filled(api, value, depth = 6) {
  if (Array.isArray(value)) return value.map((item) => filled(api, item, depth));
  if (value === null || typeof value !== "object") return value;
  if (value.$ref) return depth > 0 ? filled(api, resolve(api, value), depth - 1) : value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, filled(api, item, depth)]));
}

function operationsOf(api) {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })),
  );
}

function table(rows) {
  const row = ([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, ...cell)));
  return element("table", {}, element("tbody", {}, ...rows.map(row)));
}

// JSON with lists of numbers on one line, as people write tensors.
function pretty(value, indent = "") {
  const isFlat = (item) => item === null || typeof item !== "object";
  if (isFlat(value)) return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.every(isFlat)) return `[${value.map((item) => JSON.stringify(item)).join(", ")}]`;
    return `[\n${value.map((item) => inner + pretty(item, inner)).join(",\n")}\n${indent}]`;
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return "{}";
  const lines = entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${pretty(item, inner)}`);
  return `{\n${lines.join(",\n")}\n${indent}}`;
}

function readable(text) {
  let shown = text;
  // A number beyond a double's precision, or a bare NaN, would not survive; such a body is shown as it came.
  try {
    const parsed = JSON.parse(text);
    if (!/\d{16}/.test(text)) shown = pretty(parsed);
  } catch {}
  return shown.length > MOST_SHOWN_CHARACTERS ? `${shown.slice(0, MOST_SHOWN_CHARACTERS)}\n…` : shown;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function labelled(fields) {
  const labels = fields.map(({ parameter, input }) => element("label", {}, parameter.name, input));
  return labels.length > 0 ? element("div", { class: "fields" }, ...labels) : null;
}

// The fields of one route, what they say now, and the answer to it.
function trial(api, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => resolve(api, parameter));
  const media = operation.requestBody?.content?.["application/json"];
  const examples = Object.entries(media?.examples ?? {});
  const fields = parameters.map((parameter) => ({
    parameter,
    input: element("input", {
      name: parameter.name,
      required: parameter.required,
      autocomplete: "off",
      placeholder: parameter.required ? "required" : "optional",
    }),
  }));
  const body = media && element("textarea", { spellcheck: "false", rows: "8" });
  const choose = element("select", { onchange: () => show(choose.value) });
  const show = (name) => {
    body.value = pretty(resolve(api, media.examples[name]).value);
  };
  for (const [name, example] of examples) {
    choose.append(element("option", { value: name }, resolve(api, example).summary ?? name));
  }
  if (examples.length > 0) show(examples[0][0]);
  else if (body) body.value = "{}";

  const request = () => {
    let path = operation.path;
    const headers = media ? { "content-type": "application/json" } : {};
    for (const { parameter, input } of fields) {
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") headers[parameter.name] = input.value;
    }
    return { url: address(path), method: operation.method.toUpperCase(), headers, body: body?.value };
  };
  const answer = element("div", { class: "answer", "aria-live": "polite" });
  const send = element("button", { type: "submit" }, "Send");
  const copy = element("button", { type: "button", class: "quiet", onclick: () => copied(copy, request()) }, "Copy as curl");
  const form = element(
    "form",
    { onsubmit: (event) => { event.preventDefault(); submit(request(), send, answer); } },
    element("h3", {}, "Try it"),
    labelled(fields.filter(({ parameter }) => parameter.in === "path")),
    body
      ? element(
          "div",
          { class: "body" },
          examples.length > 1 ? element("label", {}, "Example", choose) : null,
          element("label", {}, "Body", body),
        )
      : null,
    labelled(fields.filter(({ parameter }) => parameter.in !== "path")),
    element("div", { class: "buttons" }, send, copy),
    answer,
  );
  return form;
}

async function submit({ url, method, headers, body }, button, answer) {
  button.disabled = true;
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body });
    const text = await response.text();
    const took = `${(performance.now() - started).toFixed(1)} ms`;
    const timing = response.headers.get("server-timing");
    answer.replaceChildren(
      element(
        "div",
        { class: "outcome" },
        element("span", { class: response.ok ? "good" : "bad" }, `${response.status} ${response.statusText}`),
        element("span", { class: "muted" }, took),
        timing ? element("code", { class: "muted" }, timing) : null,
      ),
      element("pre", { tabindex: "0" }, readable(text)),
    );
  } catch (error) {
    answer.replaceChildren(element("p", { class: "bad" }, `No answer: ${error.message}`));
  }
  button.disabled = false;
}

async function copied(button, { url, method, headers, body }) {
  const parts = ["curl", ...(method === "GET" ? [] : ["-X", method]), quoted(url.href)];
  for (const [name, value] of Object.entries(headers)) parts.push("-H", quoted(`${name}: ${value}`));
  if (body !== undefined) parts.push("-d", quoted(body));
  try {
    await navigator.clipboard.writeText(parts.join(" "));
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to pages over HTTPS and on localhost only.
    button.replaceWith(element("pre", { tabindex: "0" }, parts.join(" ")));
  }
}

function inside(api, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => resolve(api, parameter));
  const responses = Object.entries(operation.responses).map(([status, response]) => [status, resolve(api, response)]);
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const media = Object.keys(operation.requestBody?.content ?? {});
  return element(
    "div",
    { class: "inside" },
    operation.description ? element("p", {}, ...prose(operation.description)) : null,
    trial(api, operation),
    parameters.length > 0 ? element("h3", {}, "Parameters") : null,
    parameters.length > 0
      ? table(parameters.map(({ name, in: place, description }) => [element("code", {}, name), [place], prose(description)]))
      : null,
    media.length > 1 ? element("h3", {}, "Bodies") : null,
    media.length > 1 ? element("p", {}, ...media.flatMap((kind, index) => [index ? ", " : "", element("code", {}, kind)])) : null,
    element("h3", {}, "Answers"),
    table(responses.map(([status, { description }]) => [status, prose(description)])),
    schema
      ? element(
          "details",
          { class: "more" },
          element("summary", {}, "Schema of the body"),
          element("pre", { tabindex: "0" }, JSON.stringify(filled(api, schema), null, 2)),
        )
      : null,
  );
}

function fold(api, operation) {
  const made = element(
    "details",
    { class: "operation", id: operation.operationId },
    element(
      "summary",
      {},
      element("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
      element("span", { class: "path" }, operation.path),
      element("span", { class: "what" }, operation.summary),
    ),
  );
  // What nobody looks at is not built.
  made.addEventListener("toggle", () => { if (made.open && made.children.length === 1) made.append(inside(api, operation)); });
  return made;
}

function section(api, tag, operations) {
  const id = identifier(tag.name);
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, tag.name),
    element("p", { class: "muted" }, ...prose(tag.description)),
    ...operations.filter(({ tags }) => tags.includes(tag.name)).map((operation) => fold(api, operation)),
  );
}

// Shows the routes that hold the words, and the groups that have one.
function find(words, groups) {
  const wanted = words.toLowerCase().split(/\s+/);
  for (const group of groups.children) {
    for (const operation of group.querySelectorAll(".operation")) {
      const text = `${group.firstChild.textContent} ${operation.firstChild.textContent}`.toLowerCase();
      operation.hidden = !wanted.every((word) => text.includes(word));
    }
    group.hidden = group.querySelector(".operation:not([hidden])") === null;
  }
}

function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.matches("details")) target.open = true;
  target?.scrollIntoView();
}

async function start() {
  const state = document.getElementById("state");
  const response = await fetch(address("openapi.json"));
  if (!response.ok) throw new Error(`openapi.json answered ${response.status}`);
  const api = await response.json();
  const operations = operationsOf(api);
  const groups = document.getElementById("groups");
  groups.append(...api.tags.map((tag) => section(api, tag, operations)));
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("intro").append(
    ...api.info.description.split("\n\n").map((paragraph) => element("p", {}, ...prose(paragraph))),
  );
  const isModel = ({ name }) => name.startsWith("Model ");
  const links = (heading, tags) =>
    tags.length === 0
      ? []
      : [element("strong", {}, heading), ...tags.map(({ name }) => element("a", { href: `#${identifier(name)}` }, name.replace("Model ", "")))];
  document.getElementById("contents").append(
    ...links("Models", api.tags.filter(isModel)),
    ...links("Routes", api.tags.filter((tag) => !isModel(tag))),
  );
  document.getElementById("find").addEventListener("input", (event) => find(event.target.value, groups));
  state.remove();
  addEventListener("hashchange", open);
  open();
}

start().catch((error) => {
  const state = document.getElementById("state");
  if (state) state.textContent = `The document could not be read: ${error.message}`;
});
