// For visitors: a file that is dropped here must not open in this tab, over what they wrote. It says what to do instead.

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy"; // or no drop is heard of
});

document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.getElementById("inputs-said").textContent = "Sign up first, then add your picture.";
  document.querySelector("#inputs-visitor button").focus();
});
