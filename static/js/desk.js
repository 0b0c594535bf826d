// The operator's front page looks again every 12 seconds while somebody can see it, and at once when they come back.

const EVERY_MS = 12_000;
const front = document.getElementById("front");
let lookedAt = Date.now();

function look() {
  if (document.hidden || front.contains(document.activeElement)) return;
  lookedAt = Date.now();
  htmx.trigger(front, "look");
}

setInterval(look, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (Date.now() - lookedAt >= EVERY_MS) look();
});
