// The playground form. The server decides and explains; this applies what it said and keeps the hands on the keys.

const form = document.getElementById("run-form");
const prompt = document.getElementById("prompt");
const go = document.getElementById("go");
const counter = document.getElementById("prompt-count");
const summary = () => document.getElementById("summary");
let isSent = false;

function newNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  form.elements.nonce.value = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- What the last quote said ---
function applyQuote() {
  for (const input of form.querySelectorAll(".ratio input")) {
    // A refused shape that is chosen stays, with its warning, until another one is taken.
    const note = input.parentElement.querySelector(".ratio-note");
    input.disabled = !input.checked && ("refused" in note.dataset || "unused" in note.dataset);
  }
  setGo();
}

// Input pictures that are still on their way would be missing from the run.
const isWaiting = () => "busy" in document.getElementById("inputs").dataset;

function setGo() {
  go.disabled = isSent || isWaiting() || "blocked" in summary().dataset || tooLong() > 0;
  document.getElementById("go-wait").hidden = !isWaiting();
}
form.addEventListener("inputs", setGo);

const tooLong = () => prompt.value.trim().length - Number(summary().dataset.most);

function count() {
  const most = Number(summary().dataset.most);
  const over = tooLong();
  const isNear = over > -most / 10;
  counter.textContent = isNear ? `${(most + over).toLocaleString("en")} of ${most.toLocaleString("en")} characters` : "";
  counter.classList.toggle("prompt-over", over > 0);
  setGo();
}

// --- The prompt grows with its text (where CSS cannot do it yet) ---
const growsAlone = CSS.supports("field-sizing", "content");
function grow() {
  if (growsAlone) return;
  prompt.rows = Math.min(12, Math.max(3, prompt.value.split("\n").length, Math.ceil(prompt.value.length / 60)));
}

function write(text) {
  prompt.value = text;
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
  prompt.focus();
}

// --- "The nearest choice that fits": a link that fills in the form instead of loading the page anew ---
function fillIn(query) {
  for (const input of form.querySelectorAll("input[type=checkbox], input[type=radio]")) {
    if (query.has(input.name)) input.checked = query.getAll(input.name).includes(input.value);
  }
  keep();
  htmx.trigger("#carder", "refresh");
  htmx.trigger("#quoter", "refresh");
}

form.addEventListener("click", (event) => {
  const fit = event.target.closest("[data-fit]");
  const example = event.target.closest("[data-example]");
  if (fit) {
    event.preventDefault();
    fillIn(new URL(fit.href).searchParams);
  } else if (example) write(example.dataset.example);
});

prompt.addEventListener("input", () => {
  grow();
  count();
});

form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    if (!go.disabled) form.requestSubmit(go);
  } else if (event.target.type === "search") event.preventDefault();
});

// --- One press is one run: the button sleeps, and the server knows the nonce ---
form.addEventListener("submit", (event) => {
  if (isSent) return event.preventDefault();
  isSent = true;
  document.getElementById("go-label").textContent = "Starting…";
  // After the browser has read the form: a disabled button must not stop it.
  setTimeout(setGo);
});

addEventListener("pageshow", (event) => {
  const [visit] = performance.getEntriesByType("navigation");
  if (!event.persisted && visit?.type !== "back_forward") return;
  // Back from a run: the next press is a new one, and the form may hold other things than its quote.
  isSent = false;
  newNonce();
  htmx.trigger("#quoter", "refresh");
});

// --- The Back button: browsers bring ticks back by their place, and cards change places. So we do it by name. ---
const boxes = () => [...form.querySelectorAll(".variant input")];
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.value);
const keep = () => history.replaceState({ ...history.state, variants: chosen() }, "");

function hiddenChoice(slug) {
  return Object.assign(document.createElement("input"), { type: "hidden", name: "variants", value: slug });
}

function restore(kept) {
  if (kept.join() === chosen().join()) return;
  for (const box of boxes()) {
    box.checked = kept.includes(box.value);
    if (box.checked) box.disabled = false;
  }
  const here = boxes().map((box) => box.value);
  const missing = kept.filter((slug) => !here.includes(slug));
  // Those of a card further down are asked for: the answer has every chosen card, and takes the place of these fields.
  document.getElementById("variant-cards").append(...missing.map(hiddenChoice));
  addEventListener("DOMContentLoaded", () => {
    if (missing.length) htmx.trigger("#carder", "refresh");
    htmx.trigger("#quoter", "refresh");
  });
}
form.addEventListener("change", keep);

// --- Searching the variants must not lose a tick that was made while the answer was on its way ---
let cardsBefore = [];
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "variant-cards") cardsBefore = boxes();
});
document.body.addEventListener("htmx:afterSwap", () => {
  const list = document.getElementById("variant-cards");
  for (const before of cardsBefore) {
    const now = list.querySelector(`[value="${CSS.escape(before.value)}"]`);
    if (now) now.checked = before.checked;
    else if (before.checked) list.prepend(before.closest(".variant"));
  }
  cardsBefore = [];
});

document.body.addEventListener("htmx:afterSettle", () => {
  applyQuote();
  count();
});

// A text that came with the page counts as typed, so that the browser brings it back with the Back button.
prompt.value = prompt.value;
if (history.state?.variants) restore(history.state.variants);
applyQuote();
grow();
count();
document.getElementById("form-errors")?.focus();
