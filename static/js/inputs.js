// The strip of input pictures. What it holds is in its hidden fields, in order; the server decides what a run may use.
// A file is sent as soon as it is chosen, dropped or pasted, one at a time, as the server takes them; a picture of the gallery is sent by its id.

const form = document.getElementById("run-form");
const strip = document.getElementById("inputs");
const list = document.getElementById("inputs-list");
const refused = document.getElementById("inputs-refused");
const chooser = document.getElementById("inputs-file");
const MOST = Number(strip.dataset.most);
const MOST_MB = Number(strip.dataset.mostMb);
const AT_ONCE = 1; // the server decodes one picture of an account at a time
const BROKEN = "The connection broke.";
const FULL = `${MOST} input pictures are the most.`;

const items = () => [...list.children];
const ready = () => items().filter((item) => item.dataset.state === "ready");
const fieldOf = (item) => item.querySelector("[name=inputs]");
const say = (words) => (document.getElementById("inputs-said").textContent = words);
const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

// --- What changed: numbers, labels, the other parts of the form, and what the Back button finds ---
let before = ready().length;
let ratioBefore = "";

function label() {
  const all = items();
  all.forEach((item, at) => {
    const name = `input picture ${at + 1}`;
    item.querySelector(".input-number").textContent = at + 1;
    item.querySelector("img").alt = `Input picture ${at + 1}`;
    item.querySelector("[data-remove]").setAttribute("aria-label", `${item.dataset.state === "ready" ? "Remove" : "Cancel"} ${name}`);
    for (const [step, word, end] of [[-1, "left", 0], [1, "right", all.length - 1]]) {
      const button = item.querySelector(`[data-move="${step}"]`);
      button.setAttribute("aria-label", `Move ${name} ${word}`);
      button.disabled = at === end;
    }
  });
  const isBusy = all.some((item) => item.dataset.state !== "ready");
  strip.toggleAttribute("data-busy", isBusy);
  strip.toggleAttribute("data-full", all.length >= MOST);
  strip.toggleAttribute("data-any", all.length > 0);
  strip.toggleAttribute("data-several", all.length > 1);
  form.elements.prompt.placeholder = all.length ? form.elements.prompt.dataset.edit : form.elements.prompt.dataset.make;
  form.dispatchEvent(new CustomEvent("inputs"));
}

function keep() {
  const kept = ready().map((item) => ({
    id: fieldOf(item).value,
    thumb: item.querySelector("img").getAttribute("src"),
    width: item.dataset.width,
    height: item.dataset.height,
  }));
  history.replaceState({ ...history.state, inputs: kept }, "");
}

function changed() {
  const now = ready().length;
  if (now > before) document.getElementById("inputs-gone")?.remove();
  if (Boolean(now) !== Boolean(before)) followInput(now > 0);
  keep();
  label(); // and the rest of the form is kept with it
  if (now !== before) refreshCards();
  before = now;
  htmx.trigger("#quoter", "refresh");
}

// The first input brings its own shape; without one the shape is again what it was.
function followInput(hasInput) {
  const shapes = [...form.querySelectorAll("[name=aspect_ratio]")];
  const auto = shapes.find((shape) => shape.value === "auto");
  const chosen = shapes.find((shape) => shape.checked);
  if (hasInput && chosen !== auto) {
    ratioBefore = chosen?.value ?? "";
    auto.disabled = false;
    auto.checked = true;
  } else if (!hasInput && chosen === auto) {
    const other = shapes.find((shape) => shape.value === ratioBefore) ?? shapes.find((shape) => shape.value === "1:1") ?? shapes[1];
    other.disabled = false;
    other.checked = true;
  }
}

function refreshCards() {
  const cards = document.getElementById("carder");
  cards.setAttribute("hx-vals", JSON.stringify({ shown: Math.max(12, form.querySelectorAll(".variant").length) }));
  htmx.trigger(cards, "refresh");
}

// --- One picture ---
function newItem(src) {
  const item = clone("input-template");
  item.querySelector("img").src = src;
  list.append(item);
  return item;
}

function settle(item, upload) {
  fieldOf(item).value = upload.id;
  fieldOf(item).disabled = false;
  item.dataset.state = "ready";
  item.dataset.width = upload.width;
  item.dataset.height = upload.height;
  const image = item.querySelector("img");
  const local = image.src;
  image.src = upload.thumb;
  if (local.startsWith("blob:")) image.addEventListener("load", () => URL.revokeObjectURL(local), { once: true });
}

function refuse(name, why, again, { isFull, isLoggedOut } = {}) {
  const line = clone("refused-template");
  line.querySelector(".refused-name").textContent = name;
  line.querySelector(".refused-why").textContent = why;
  const retry = line.querySelector("[data-again]");
  if (again) {
    retry.hidden = false;
    retry.addEventListener("click", () => {
      dismiss(line);
      again();
    });
  } else retry.remove();
  line.querySelector("[data-manage]").hidden = !isFull;
  line.querySelector("[data-login]").hidden = !isLoggedOut;
  line.querySelector("[data-dismiss]").addEventListener("click", () => dismiss(line));
  refused.append(line);
}

function dismiss(line) {
  const next = line.nextElementSibling ?? line.previousElementSibling;
  const hadFocus = line.contains(document.activeElement);
  line.remove();
  if (hadFocus) (next?.querySelector("[data-dismiss]") ?? firstAdder()).focus();
}

const firstAdder = () => (items().length < MOST ? document.getElementById("inputs-choose") : list.querySelector("[data-remove]"));

// --- Sending ---
const queue = [];
let underWay = 0;

function send(name, body, src, again) {
  const item = newItem(src);
  item.dataset.name = name;
  item.dataset.state = "waiting";
  queue.push({ item, name, body, again });
  label();
  next();
}

function next() {
  while (underWay < AT_ONCE && queue.length) start(queue.shift());
}

function start(order) {
  const { item, name, body } = order;
  underWay += 1;
  item.dataset.state = "sending";
  say(`Adding ${name}.`);
  const call = new XMLHttpRequest();
  const bar = item.querySelector("progress");
  call.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    // The last step is the server's: it decodes the picture and makes its thumbnail.
    if (event.loaded < event.total) bar.value = event.loaded / event.total;
    else bar.removeAttribute("value");
  });
  call.addEventListener("loadend", () => {
    underWay -= 1;
    next();
    if (item.isConnected) answered(order, call);
  });
  item.cancel = () => call.abort();
  call.open("POST", strip.dataset.url);
  call.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
  call.setRequestHeader("Accept", "application/json");
  call.send(body);
}

function answered(order, call) {
  const { item, name, again } = order;
  if (call.status === 403 && !order.isRenewed) return renew(order);
  const answer = parsed(call.responseText);
  if (call.status === 201 && answer?.id) {
    const twin = ready().find((other) => fieldOf(other).value === answer.id);
    if (twin) {
      item.remove();
      say(`${name} is input picture ${items().indexOf(twin) + 1} already.`);
      return label();
    }
    settle(item, answer);
    say(`${name} added, input picture ${items().indexOf(item) + 1} of ${items().length}.`);
    return changed();
  }
  const hadFocus = item.contains(document.activeElement);
  item.remove();
  refuse(name, ...reason(call, answer, again));
  label();
  if (hadFocus) firstAdder().focus();
}

/** Who logs in again in another tab gets a new token with it, and this form still has the old one. */
async function renew(order) {
  order.isRenewed = true;
  try {
    const page = await (await fetch(location.pathname)).text();
    const token = new DOMParser().parseFromString(page, "text/html").querySelector("#run-form [name=csrfmiddlewaretoken]");
    if (token) form.elements.csrfmiddlewaretoken.value = token.value;
  } catch {
    // Then the second try says why.
  }
  if (!order.item.isConnected) return;
  queue.unshift(order);
  next();
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Why, how to try again where that may help, and what else would. */
function reason(call, answer, again) {
  if (call.status === 401 || call.responseURL.includes("/accounts/login/")) {
    return ["You are logged out. Log in, then try again.", again, { isLoggedOut: true }];
  }
  if (typeof answer?.error === "string") {
    return [answer.error, call.status >= 500 || call.status === 429 ? again : null, { isFull: call.status === 409 }];
  }
  if (call.status === 404) return ["That picture has been deleted.", null];
  if (call.status === 413) return [`The file is larger than ${MOST_MB} MB.`, null];
  return [call.status ? "It could not be added." : BROKEN, again];
}

// --- Files: chosen, dropped or pasted. The server judges them; this only spares a wait that would be in vain. ---
function addFile(file) {
  const name = file.name || "the pasted picture";
  if (items().length >= MOST) return refuse(name, FULL);
  if (file.size > MOST_MB * 1e6) return refuse(name, `The file is larger than ${MOST_MB} MB.`);
  if (file.type && !file.type.startsWith("image/")) return refuse(name, "The file is not a JPEG, PNG or WebP picture.");
  const body = new FormData();
  body.append("file", file, name);
  send(name, body, URL.createObjectURL(file), () => addFile(file));
}

function addPicture(picture) {
  if (items().length >= MOST) return refuse(picture.name, FULL);
  const body = new FormData();
  body.append("picture", picture.id);
  send(picture.name, body, picture.thumb, () => addPicture(picture));
}

function addAll(things, add) {
  refused.replaceChildren();
  for (const thing of things) add(thing);
}

document.getElementById("inputs-choose").addEventListener("click", () => chooser.click());
chooser.addEventListener("change", (event) => {
  event.stopPropagation(); // it is no part of what is ordered
  addAll([...chooser.files], addFile);
  chooser.value = "";
});
form.addEventListener("picked", (event) => addAll(event.detail, addPicture));

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  // What comes from a text editor is text with a picture of itself.
  if (!files.length || (event.target === form.elements.prompt && event.clipboardData.types.includes("text/plain"))) return;
  event.preventDefault();
  addAll(files, addFile);
});

// On the whole page: a file that misses the form must not take its place.
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  strip.dataset.over = "";
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) delete strip.dataset.over;
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  delete strip.dataset.over;
  addAll([...event.dataTransfer.files], addFile);
});

// --- Removing and moving: buttons, keys, and a drag by mouse or pen ---
function remove(item) {
  const other = item.nextElementSibling ?? item.previousElementSibling;
  const wasReady = item.dataset.state === "ready";
  item.remove();
  const waiting = queue.findIndex((order) => order.item === item);
  if (waiting >= 0) queue.splice(waiting, 1);
  item.cancel?.();
  say(`Removed. ${items().length || "No"} input ${items().length === 1 ? "picture" : "pictures"} left.`);
  if (wasReady) changed();
  else label();
  (other?.querySelector("[data-remove]") ?? firstAdder()).focus();
}

/** Moves the neighbour and not the picture itself, so that the focus stays where it is. */
function move(item, step) {
  const neighbour = step < 0 ? item.previousElementSibling : item.nextElementSibling;
  if (!neighbour) return;
  if (step < 0) item.after(neighbour);
  else item.before(neighbour);
  changed();
  const button = item.querySelector(`[data-move="${step}"]`);
  (button.disabled ? item.querySelector(`[data-move="${-step}"]`) : button).focus();
  say(`Now input picture ${items().indexOf(item) + 1} of ${items().length}.`);
}

list.addEventListener("click", (event) => {
  const item = event.target.closest(".input-item");
  const button = event.target.closest("button");
  // The second click of a double click lands on the picture that has come to this place.
  if (!item || !button || event.detail > 1) return;
  if ("remove" in button.dataset) remove(item);
  else move(item, Number(button.dataset.move));
});

list.addEventListener("keydown", (event) => {
  const item = event.target.closest(".input-item");
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in steps) move(item, steps[event.key]);
  else if (event.key === "Delete" || event.key === "Backspace") remove(item);
  else return;
  event.preventDefault();
});

let drag = null;
list.addEventListener("pointerdown", (event) => {
  const item = event.target.closest(".input-item");
  if (event.pointerType === "touch" || event.button !== 0 || event.target.closest("button") || !item) return;
  drag = { item, x: event.clientX, y: event.clientY, order: items(), isOn: false };
});
document.addEventListener("pointermove", (event) => {
  if (!drag) return;
  drag.isOn ||= Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 6;
  if (!drag.isOn) return;
  drag.item.dataset.dragged = "";
  const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".input-item");
  if (!over || over === drag.item) return;
  if (items().indexOf(over) > items().indexOf(drag.item)) over.after(drag.item);
  else over.before(drag.item);
});
function drop(isKept) {
  if (!drag) return;
  const { item, order } = drag;
  drag = null;
  delete item.dataset.dragged;
  if (!isKept) list.append(...order);
  else if (items().some((other, at) => other !== order[at])) changed();
}
document.addEventListener("pointerup", () => drop(true));
document.addEventListener("pointercancel", () => drop(false));
document.addEventListener("keydown", (event) => event.key === "Escape" && drop(false));
list.addEventListener("dragstart", (event) => event.preventDefault());

// --- The first look: what the Back button or a reload brings again counts more than what the page came with ---
function restore(kept) {
  list.replaceChildren();
  for (const upload of kept) settle(newItem(upload.thumb), upload);
  before = -1; // the page was made for other inputs: the cards are asked for once
  addEventListener("DOMContentLoaded", () => {
    refreshCards();
    before = ready().length;
    htmx.trigger("#quoter", "refresh");
  });
}

// An upload that was never used is gone after some days, and an old tab may still show it.
list.addEventListener(
  "error",
  (event) => {
    const item = event.target.closest(".input-item");
    if (item?.dataset.state !== "ready") return;
    const at = items().indexOf(item) + 1;
    item.remove();
    refuse(`Input picture ${at}`, "It is not here any more. Add it again.");
    changed();
  },
  true,
);

const kept = history.state?.inputs;
const shown = ready().map((item) => fieldOf(item).value);
if (kept && kept.map((upload) => upload.id).join() !== shown.join()) restore(kept);
label();
