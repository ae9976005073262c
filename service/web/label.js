"use strict";
// Shows one picture after the other, and sends what a person says of each. One key is one answer.

const work = document.getElementById("work");
const answer = document.getElementById("answer");
const said = document.getElementById("said");
const count = document.getElementById("count");
const buttons = document.getElementById("labels");
let key = sessionStorage.getItem("neocog-key"); // until the tab is closed
let names = []; // of the labels, as they are written
let digits = false; // the service wants numbers
let waiting = []; // pictures that were not shown yet
let shown = null;
let before = null; // the picture shown last, for undo
let busy = false; // an answer is on its way; keys are ignored meanwhile

async function ask(path, options = {}) {
  const headers = { "X-API-Key": key, "Content-Type": "application/json" };
  const response = await fetch(path, { ...options, headers });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.detail);
  return reply;
}

// Does one thing at a time, and shows what goes wrong with it. Returns whether nothing did.
async function alone(action) {
  if (busy) return false;
  busy = true;
  try {
    said.textContent = "";
    await action();
    return true;
  } catch (error) {
    said.textContent = error instanceof TypeError ? "The service cannot be reached." : error.message;
    return false;
  } finally {
    busy = false;
  }
}

async function start() {
  const ready = await alone(async () => {
    names = (await ask("version")).labels;
    digits = names.every((name) => /^[0-9]$/.test(name));
    await next();
  });
  if (!ready) return;
  sessionStorage.setItem("neocog-key", key);
  document.getElementById("enter").hidden = true;
  buttons.replaceChildren(
    ...names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => say(name));
      return button;
    }),
  );
}

// All answers are in the journal before more pictures are asked for, so none comes twice.
async function next() {
  if (!waiting.length) waiting = (await ask("label/next?n=10")).items;
  show(waiting.shift() ?? null);
}

function show(item) {
  shown = item;
  work.hidden = !item;
  if (!item) {
    said.textContent = "Nothing waits for a label. Press any key to look again.";
    return;
  }
  document.getElementById("picture").src = item.image;
  document.getElementById("confirm").disabled = item.blind;
  if (item.blind) {
    answer.textContent = "?";
    return;
  }
  const name = document.createElement("strong");
  name.textContent = item.prediction;
  const second = item.probabilities.map((share, place) => [share, names[place]]).sort((a, b) => b[0] - a[0])[1];
  const sure = `with ${(100 * Math.max(...item.probabilities)).toFixed(0)} %`;
  answer.replaceChildren("The model reads ", name, ` ${sure}${second ? `, then ${second[1]}` : ""}`);
}

// `name` is what a label is called; null says that there is none.
function say(name) {
  return alone(async () => {
    if (!shown) return next();
    const label = name === null || !digits ? name : Number(name);
    await ask("label", { method: "POST", body: JSON.stringify({ token: shown.token, label }) });
    if (name !== null) count.textContent = Number(count.textContent) + 1;
    before = shown;
    await next();
    if (shown) said.textContent = name === null ? "Skipped." : `Kept: ${name}.`;
  });
}

// An answer cannot be taken back, only replaced by another one.
function undo() {
  if (!before || busy) return;
  if (shown) waiting.unshift(shown);
  show(before);
  before = null;
}

function confirm() {
  if (shown && !shown.blind) say(String(shown.prediction));
}

document.getElementById("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key = document.getElementById("key").value;
  start();
});
document.getElementById("confirm").addEventListener("click", confirm);
document.getElementById("skip").addEventListener("click", () => say(null));
document.getElementById("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (work.hidden && !names.length) return; // no key was accepted yet
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target instanceof HTMLInputElement) return;
  if (!shown) {
    say(null);
    return;
  }
  const name = names.find((label) => label === event.key || (!digits && label.toLowerCase() === event.key));
  if (digits && event.key === "x") say(null);
  else if (digits && event.key === "u") undo();
  else if (event.key === "Enter") confirm();
  else if (event.key === "Escape") say(null);
  else if (event.key === "Backspace") undo();
  else if (name !== undefined) say(name);
  else return;
  event.preventDefault(); // Enter would press the button that has the focus, too
});

if (key) start();
