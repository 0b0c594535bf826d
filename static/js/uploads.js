// A picture that was removed gives its place and the focus to the next one.

const list = document.querySelector(".uploads");
let next = null;

list?.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const tile = detail.requestConfig.verb === "post" && detail.shouldSwap ? detail.target : null;
  next = tile && (tile.nextElementSibling ?? tile.previousElementSibling);
});

document.body.addEventListener("htmx:afterSettle", () => {
  (next?.querySelector("form button") ?? next?.querySelector("a"))?.focus();
  next = null;
});
