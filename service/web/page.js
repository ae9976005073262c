"use strict";
// Draws on a canvas, sends it as a PNG whenever the pen is lifted, and shows what the model says.

const pad = document.getElementById("pad");
const pen = pad.getContext("2d");
const answer = document.getElementById("answer");
const bars = document.getElementById("bars");
const labels = document.getElementById("labels");
let prediction = null;
let sent = 0; // only the answer to the latest question is shown

const rows = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement("li");
  const name = document.createElement("span");
  const bar = document.createElement("progress");
  const share = document.createElement("span");
  name.textContent = digit;
  bar.max = 1;
  bar.value = 0;
  row.append(name, bar, share);
  bars.append(row);
  const button = document.createElement("button");
  button.textContent = digit;
  button.addEventListener("click", () => correct(digit));
  labels.append(button);
  return { bar, share };
});

function clear() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, pad.width, pad.height);
  sent += 1;
  answer.textContent = "";
  show(null);
}

function show(said) {
  prediction = said;
  rows.forEach(({ bar, share }, digit) => {
    bar.value = said ? said.probabilities[digit] : 0;
    share.textContent = said ? `${(100 * said.probabilities[digit]).toFixed(1)} %` : "";
  });
  document.getElementById("ask").hidden = !said;
  document.getElementById("seenbox").hidden = !said;
  if (said) document.getElementById("seen").src = said.seen;
}

async function ask(picture) {
  const turn = (sent += 1);
  let said, ok;
  try {
    const response = await fetch("predict?explain=true", {
      method: "POST",
      headers: { "Content-Type": picture.type || "application/octet-stream" },
      body: picture,
    });
    [said, ok] = [await response.json(), response.ok];
  } catch {
    [said, ok] = [{ detail: "the service cannot be reached" }, false];
  }
  if (turn !== sent) return;
  if (!ok) {
    answer.textContent = said.detail;
    show(null);
    return;
  }
  const digit = document.createElement("strong");
  digit.textContent = said.digit;
  const sure = said.abstained ? " perhaps; too unsure to say" : ` with ${(100 * said.confidence).toFixed(1)} %`;
  answer.replaceChildren(digit, sure);
  show(said);
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

clear();
