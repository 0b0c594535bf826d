// The list of deliveries is drawn anew while messages are on their way: what its reader has opened stays open.

let open = [];

document.addEventListener("htmx:beforeRequest", (event) => {
  const isMarking = !getSelection().isCollapsed; // to copy it, which a new drawing would undo
  if (event.target.id === "deliveries" && isMarking) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", () => {
  open = Array.from(document.querySelectorAll("#deliveries details[open]"), (details) => details.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
});
