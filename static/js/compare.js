// Before and after: two pictures on top of each other and a divider, moved by mouse, touch or keys.
// The range input is the truth: it has the focus, the keys and the words; the divider only follows it.

const dialog = document.getElementById("compare");
const stage = document.getElementById("compare-stage");
const range = document.getElementById("compare-at");
const before = document.getElementById("compare-before");
const after = document.getElementById("compare-after");

function words(at) {
  if (at === 0) return "Only the result";
  if (at === 100) return "Only the input";
  return `${at} percent input, ${100 - at} percent result`;
}

function show() {
  const at = Number(range.value);
  stage.style.setProperty("--at", `${at}%`);
  range.setAttribute("aria-valuetext", words(at));
}

function open({ dataset }) {
  before.src = dataset.before;
  after.src = dataset.after;
  const [across, down] = [Number(dataset.width), Number(dataset.height)];
  const shape = Number(dataset.beforeWidth) / Number(dataset.beforeHeight) / (across / down);
  stage.style.setProperty("--ratio", String(across / down));
  // Shapes that are nearly the same lie on each other; others are shown whole.
  stage.toggleAttribute("data-alike", Math.abs(shape - 1) < 0.12);
  document.getElementById("compare-label").textContent = dataset.label;
  range.value = 50;
  show();
  dialog.showModal();
  range.focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-compare]");
  if (button) open(button);
  else if (event.target === dialog) dialog.close(); // the ground around it
});
range.addEventListener("input", show);

function follow(event) {
  const box = stage.getBoundingClientRect();
  range.value = Math.round(((event.clientX - box.left) / box.width) * 100);
  show();
}

stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  range.focus({ preventScroll: true });
  follow(event);
});
stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && follow(event));
