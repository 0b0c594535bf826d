// A key is shown once: whoever comes back to the page with the Back button finds it blank, and is taken to the list.

const page = document.querySelector("[data-key-shown]");

addEventListener("pagehide", () => {
  for (const secret of page.querySelectorAll("[data-secret]")) secret.textContent = "shown once";
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.replace(page.dataset.keyShown);
});
