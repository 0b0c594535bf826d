// A run's page: clocks that tick, a poll at once when the laptop wakes, and a word when the connection is gone.

const started = new WeakMap();

function tick() {
  for (const clock of document.querySelectorAll("[data-since]")) {
    if (!started.has(clock)) started.set(clock, Date.now() - Number(clock.dataset.since) * 1000);
    const seconds = Math.floor((Date.now() - started.get(clock)) / 1000);
    const text = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    if (clock.textContent !== text) clock.textContent = text;
  }
}
setInterval(tick, 250);

const wake = () => htmx.trigger(document.body, "wake");
document.addEventListener("visibilitychange", () => document.hidden || wake());
addEventListener("online", wake);
addEventListener("pageshow", (event) => event.persisted && wake());

const isPoll = (event) => event.detail.elt.id === "poller";
const setLost = (isLost) => (document.getElementById("connection").hidden = !isLost);
for (const failure of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.body.addEventListener(failure, (event) => isPoll(event) && setLost(true));
}
document.body.addEventListener("htmx:beforeOnLoad", (event) => {
  if (isPoll(event) && event.detail.xhr.status < 400) setLost(false);
});
