// The dialog that shows the gallery: press the pictures that are wanted, then add them. The form hears "picked".

const picker = document.getElementById("picker");
const add = document.getElementById("picker-add");
const pictures = () => [...picker.querySelectorAll("[data-pick]")];
let chosen = []; // in the order of pressing, which is the order of the inputs

function count() {
  for (const picture of pictures()) picture.querySelector(".input-number").textContent = chosen.indexOf(picture) + 1 || "";
  add.disabled = !chosen.length;
  add.textContent = chosen.length > 1 ? `Add ${chosen.length} pictures` : "Add the picture";
}

function toggle(picture) {
  const isChosen = !chosen.includes(picture);
  chosen = isChosen ? [...chosen, picture] : chosen.filter((other) => other !== picture);
  picture.setAttribute("aria-pressed", String(isChosen));
  count();
}

document.getElementById("inputs-pick").addEventListener("click", () => {
  chosen = [];
  count();
  // Asked for each time it opens: a run may have ended meanwhile.
  htmx.trigger("#picker-body", "open");
});

picker.addEventListener("click", (event) => {
  const picture = event.target.closest("[data-pick]");
  if (picture) toggle(picture);
  else if (event.target === picker) picker.close(); // the ground around it
});

picker.addEventListener("keydown", (event) => {
  const all = pictures();
  const at = all.indexOf(event.target);
  if (at < 0) return;
  const perRow = all.filter((one) => one.offsetTop === all[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow };
  const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : event.key in steps ? at + steps[event.key] : -1;
  if (!all[to]) return;
  event.preventDefault();
  all[to].focus();
});

add.addEventListener("click", () => {
  const detail = chosen.map((picture) => ({
    id: picture.dataset.pick,
    name: picture.dataset.name,
    thumb: picture.querySelector("img").getAttribute("src"),
  }));
  picker.close();
  document.getElementById("run-form").dispatchEvent(new CustomEvent("picked", { detail }));
});

// The "Older" button gives its place to pictures; the focus goes on to the first of them.
let before = 0;
picker.addEventListener("htmx:beforeRequest", () => (before = pictures().length));
picker.addEventListener("htmx:afterSettle", () => {
  if (!picker.contains(document.activeElement) || document.activeElement === picker) pictures()[before]?.focus();
});
