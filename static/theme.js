// Before the first paint, so that a chosen theme never flashes: a classic script in <head>, not a module.
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage (a strict private window): the system's choice stands.
}
