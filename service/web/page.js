"use strict";
// Draws on a canvas, sends it as a PNG whenever the pen is lifted, and shows what the model says.

const pad = document.getElementById("pad");
const pen = pad.getContext("2d");
const answer = document.getElementById("answer");
const bars = document.getElementById("bars");
const labels = document.getElementById("labels");
let prediction = null;
let sent = 0; // only the answer to the latest question is shown

let rows = []; // a bar for each label, in the order of the probabilities

// The bundle that is served names the labels.
async function start() {
  const { labels: names } = await (await fetch("version")).json();
  const digits = names.every((name) => /^[0-9]$/.test(name));
  if (!digits) document.getElementById("title").textContent = `Draw one of ${names.join(" ")}`;
  rows = names.map((name) => {
    const row = document.createElement("li");
    const text = document.createElement("span");
    const bar = document.createElement("progress");
    const share = document.createElement("span");
    text.textContent = name;
    bar.max = 1;
    bar.value = 0;
    row.append(text, bar, share);
    bars.append(row);
    const button = document.createElement("button");
    button.textContent = name;
    button.addEventListener("click", () => correct(digits ? Number(name) : name));
    labels.append(button);
    return { bar, share };
  });
}
const started = start();

function clear() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, pad.width, pad.height);
  sent += 1;
  answer.textContent = "";
  show(null);
}

function show(reply) {
  prediction = reply;
  rows.forEach(({ bar, share }, place) => {
    bar.value = reply ? reply.probabilities[place] : 0;
    share.textContent = reply ? `${(100 * reply.probabilities[place]).toFixed(1)} %` : "";
  });
  document.getElementById("ask").hidden = !reply;
  document.getElementById("seenbox").hidden = !reply;
  if (reply) document.getElementById("seen").src = reply.seen;
}

async function ask(picture) {
  const turn = (sent += 1);
  await started;
  let reply, ok;
  try {
    const response = await fetch("predict?explain=true", {
      method: "POST",
      headers: { "Content-Type": picture.type || "application/octet-stream" },
      body: picture,
    });
    [reply, ok] = [await response.json(), response.ok];
  } catch {
    [reply, ok] = [{ detail: "the service cannot be reached" }, false];
  }
  if (turn !== sent) return;
  if (!ok) {
    answer.textContent = reply.detail;
    show(null);
    return;
  }
  const name = document.createElement("strong");
  name.textContent = reply.digit ?? reply.label;
  const sure = reply.abstained ? " perhaps; too unsure to say" : ` with ${(100 * reply.confidence).toFixed(1)} %`;
  answer.replaceChildren(name, sure);
  show(reply);
}

async function correct(label) {
  if (!prediction) return;
  const response = await fetch("feedback", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prediction_id: prediction.prediction_id, label }),
  });
  answer.textContent = response.ok ? `Thank you: a ${label}.` : (await response.json()).detail;
}

let last = null;
function place(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * pad.width, ((event.clientY - box.top) / box.height) * pad.height];
}
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last);
});
pad.addEventListener("pointermove", (event) => {
  if (!last) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const part of events.length ? events : [event]) stroke(place(part));
});
for (const kind of ["pointerup", "pointercancel"]) {
  pad.addEventListener(kind, () => {
    if (last) pad.toBlob(ask, "image/png");
    last = null;
  });
}
function stroke(to) {
  pen.lineWidth = 18;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#111";
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...to);
  pen.stroke();
  last = to;
}

document.getElementById("clear").addEventListener("click", clear);
const file = document.getElementById("file");
file.addEventListener("change", () => take(file.files[0]));
pad.addEventListener("dragover", (event) => {
  event.preventDefault();
  pad.classList.add("drop");
});
pad.addEventListener("dragleave", () => pad.classList.remove("drop"));
pad.addEventListener("drop", (event) => {
  event.preventDefault();
  pad.classList.remove("drop");
  take(event.dataTransfer.files[0]);
});

async function take(photo) {
  if (!photo) return;
  clear();
  ask(photo);
  try {
    const picture = await createImageBitmap(photo);
    const scale = Math.min(pad.width / picture.width, pad.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    pen.drawImage(picture, (pad.width - width) / 2, (pad.height - height) / 2, width, height);
  } catch {
    /* the service says what is wrong with it */
  }
}

// What is known of the model in production. The service reads it behind its first answer, so ask again soon.
const WORDS = {
  learning: "The model is being watched; there is too little traffic yet to say more.",
  steady: "The traffic is like the pictures the model was judged on.",
  changed: "The traffic has changed. Nothing says yet that it harms.",
  risk: "The model is probably wrong more often than it was.",
  harm: "The model is wrong more often than it was: its labels say so.",
};
async function watch(wait) {
  let known = {};
  try {
    known = await (await fetch("drift")).json();
  } catch {
    /* it is shown again once the service is back */
  }
  gauge(known);
  setTimeout(watch, wait, Math.min(4 * wait, 30000));
}

function gauge({ status, estimated_accuracy: accuracy, evidence }) {
  document.getElementById("drift").hidden = !(status in WORDS);
  document.getElementById("status").textContent = WORDS[status] ?? "";
  document.getElementById("accuracybox").hidden = !accuracy;
  if (accuracy) {
    const percent = (share) => (100 * share).toFixed(1);
    document.getElementById("accuracy").textContent = `${percent(accuracy.mean)} %`;
    document.getElementById("range").textContent = `(${percent(accuracy.low)} to ${percent(accuracy.high)} %)`;
  }
  const [name, most] = Object.entries(evidence ?? {}).reduce((a, b) => (b[1] > a[1] ? b : a), ["", -Infinity]);
  document.getElementById("evidencebox").hidden = !name;
  if (!name) return;
  document.getElementById("evidence").value = Math.max(0, most); // full at 1,000 to 1
  const odds = most > 6 ? "more than a million" : Math.max(1, Math.round(10 ** most)).toLocaleString("en");
  document.getElementById("odds").textContent = most > 0 ? `${odds} to 1, by ${name}` : "none";
}

clear();
watch(1000);
