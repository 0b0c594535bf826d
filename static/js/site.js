// What every page has: the theme switch, copy buttons, questions before a deed, password peeking, dialogs, menus.

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It lasts for this page only.
  }
}

async function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  const text = source.value ?? source.textContent;
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(text.trim());
    button.textContent = "Copied";
  } catch {
    // Without https there is no clipboard: select it, so that one key copies it.
    getSelection().selectAllChildren(source);
    source.select?.();
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = words), 2000);
}

function peek(button) {
  const input = document.getElementById(button.getAttribute("aria-controls"));
  const show = input.type === "password";
  input.type = show ? "text" : "password";
  button.textContent = show ? "Hide" : "Show";
  button.setAttribute("aria-pressed", String(show));
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  if (at("[data-theme-switch]")) switchTheme();
  else if (at("[data-copy]")) copy(at("[data-copy]"));
  else if (at("[data-show-password]")) peek(at("[data-show-password]"));
  else if (at("[data-dialog]")) document.querySelector(at("[data-dialog]").dataset.dialog).showModal();
  else if (at("[data-close]")) at("dialog").close();
  else if (at("[data-print]")) print();
});

document.addEventListener("submit", (event) => {
  const words = event.target.dataset.confirm;
  if (words && !confirm(words)) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// In whose time zone pages print their times, unless the account has chosen one.
const zone = encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone ?? "");
if (!document.cookie.split("; ").includes(`zone=${zone}`)) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
}

// On a phone the settings' navigation slides: the page that one is on must be in sight.
document.querySelector(".settings-nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// Buttons that need this file are hidden without it, also those that arrive later.
function unhide() {
  for (const hidden of document.querySelectorAll("[data-needs-script][hidden]")) hidden.hidden = false;
}
document.addEventListener("htmx:afterSettle", unhide);
unhide();
