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
  for (const input of form.querySelectorAll("input[type=radio]")) {
    if (query.has(input.name)) input.checked = query.getAll(input.name).includes(input.value);
  }
  choose(query.getAll("variants"));
  document.getElementById("inputs-gone")?.remove(); // it was a part of what did not fit
  keep();
  htmx.trigger("#carder", "refresh");
  htmx.trigger("#quoter", "refresh");
}

form.addEventListener("click", (event) => {
  const fit = event.target.closest("[data-fit]");
  const example = event.target.closest("[data-example]");
  if (fit) {
    event.preventDefault();
    isOwn = true;
    tellSwitch("");
    fillIn(new URL(fit.href).searchParams);
  } else if (example) write(example.dataset.example);
});

// While nobody chose a variant, those that we chose make way for those that take the input pictures.
let isOwn = history.state?.isOwn ?? !("default" in document.getElementById("variant-field").dataset);

function followInputs() {
  const fit = summary().querySelector("[data-fit=inputs]");
  if (isOwn || !fit) return;
  fit.dataset.fit = ""; // once is enough
  tellSwitch(fit.dataset.said);
  fillIn(new URL(fit.href).searchParams);
}

function tellSwitch(words) {
  const line = document.getElementById("variants-switched");
  line.textContent = words;
  line.hidden = !words;
  const heard = document.getElementById("inputs-said");
  if (words) heard.textContent = `${heard.textContent} ${words}`.trim();
}

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

// --- Back and reload: browsers bring ticks back by their place, and cards change places. So we do it by name. ---
const choices = () => [...document.querySelectorAll("#variant-cards [name=variants]")];
const isOn = (choice) => choice.type === "hidden" || choice.checked;
const chosen = () => choices().filter(isOn).map((choice) => choice.value);
const shape = () => form.querySelector("[name=aspect_ratio]:checked")?.value;

const cards = () => document.querySelectorAll("#variant-cards .variant").length;
const search = document.getElementById("variant-search"); // where there are few variants, there is none

function keep() {
  const isGone = Boolean(document.getElementById("inputs-gone"));
  const seen = { shown: cards(), words: search?.value ?? "" };
  history.replaceState({ ...history.state, variants: chosen(), ratio: shape(), isOwn, isGone, ...seen }, "");
}
form.addEventListener("inputs", keep);

function hiddenChoice(slug) {
  return Object.assign(document.createElement("input"), { type: "hidden", name: "variants", value: slug });
}

/** Those of a card further down are asked for: the answer has every chosen card, and takes the place of these fields. */
function choose(slugs) {
  for (const choice of choices()) {
    choice.checked = slugs.includes(choice.value);
    if (choice.checked) choice.disabled = false;
    else if (choice.type === "hidden") choice.remove();
  }
  const here = choices().map((choice) => choice.value);
  const missing = slugs.filter((slug) => !here.includes(slug));
  document.getElementById("variant-cards").append(...missing.map(hiddenChoice));
  return missing.length > 0;
}

/** As many cards as were there, or those that were searched for; true where that is not what is here. */
function show(shown, words) {
  const isOther = shown > cards() || words !== (search?.value ?? "");
  if (search) search.value = words;
  if (isOther) document.getElementById("carder").setAttribute("hx-vals", JSON.stringify({ shown: Math.max(12, shown) }));
  return isOther;
}

function restore({ variants, ratio, isGone, shown, words }) {
  const isOther = show(shown, words);
  const isSame = variants.join() === chosen().join() && ratio === shape() && !isOther;
  const isMissing = choose(variants) || isOther;
  const kept = [...form.querySelectorAll("[name=aspect_ratio]")].find((one) => one.value === ratio);
  if (kept) Object.assign(kept, { checked: true, disabled: false });
  if (!isGone) document.getElementById("inputs-gone")?.remove();
  if (isSame && !("blocked" in summary().dataset)) return;
  addEventListener("DOMContentLoaded", () => {
    if (isMissing) htmx.trigger("#carder", "refresh");
    htmx.trigger("#quoter", "refresh");
  });
}

form.addEventListener("change", (event) => {
  if (event.target.name === "variants") {
    isOwn = true;
    tellSwitch("");
  }
  keep();
});

// --- Searching the variants must not lose a tick that was made while the answer was on its way ---
let cardsBefore = [];
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "variant-cards") cardsBefore = choices();
});
document.body.addEventListener("htmx:afterSwap", () => {
  const list = document.getElementById("variant-cards");
  for (const before of cardsBefore) {
    const now = list.querySelector(`[value="${CSS.escape(before.value)}"]`);
    if (now) now.checked = isOn(before);
    else if (isOn(before)) list.prepend(before.closest(".variant") ?? before);
    if (now?.checked) now.disabled = false;
  }
  cardsBefore = [];
});

document.body.addEventListener("htmx:afterSettle", (event) => {
  applyQuote();
  count();
  followInputs();
  if (event.detail.target.id === "variant-cards") keep();
});

// A text that came with the page counts as typed, so that the browser brings it back with the Back button.
prompt.value = prompt.value;
if (history.state?.variants) restore(history.state);
applyQuote();
grow();
count();
document.getElementById("form-errors")?.focus();
