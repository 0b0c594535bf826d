// Passkeys and security keys: forms with data-passkey="create|get" ask the browser for one and send what it says.
//
// The options lie beside the form as JSON (data-options: the id of that element), or are fetched from the form's own
// address (data-fetch). Server and browser differ in one thing: bytes are base64url there, and buffers here.

const WORDS = {
  NotAllowedError: "That was cancelled, or took too long. Try again.",
  InvalidStateError: "This device or key has been added already.",
  SecurityError: "This page's address is not the one that your key belongs to.",
  NotSupportedError: "This device cannot make such a key.",
};

const bytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0)).buffer;

const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const readable = (list = []) => list.map((known) => ({ ...known, id: bytes(known.id) }));

async function create(form, { publicKey }) {
  const alone = form.elements.passwordless?.checked ?? false;
  const credential = await navigator.credentials.create({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      user: { ...publicKey.user, id: bytes(publicKey.user.id) },
      excludeCredentials: readable(publicKey.excludeCredentials),
      authenticatorSelection: {
        ...publicKey.authenticatorSelection,
        residentKey: alone ? "required" : "discouraged",
        requireResidentKey: alone,
        ...(alone && { userVerification: "required" }),
      },
    },
  });
  const said = credential.response;
  return answer(credential, {
    attestationObject: text(said.attestationObject),
    transports: said.getTransports?.() ?? [],
  });
}

async function get(_form, { publicKey }) {
  const credential = await navigator.credentials.get({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      allowCredentials: readable(publicKey.allowCredentials),
    },
  });
  const said = credential.response;
  return answer(credential, {
    authenticatorData: text(said.authenticatorData),
    signature: text(said.signature),
    userHandle: said.userHandle ? text(said.userHandle) : null,
  });
}

const answer = (credential, said) => ({
  id: credential.id,
  rawId: text(credential.rawId),
  type: credential.type,
  authenticatorAttachment: credential.authenticatorAttachment,
  clientExtensionResults: credential.getClientExtensionResults(),
  response: { clientDataJSON: text(credential.response.clientDataJSON), ...said },
});

async function optionsFor(form) {
  if (form.dataset.options) return JSON.parse(document.getElementById(form.dataset.options).textContent);
  const response = await fetch(form.action, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error("the page did not answer");
  return (await response.json()).request_options;
}

async function ask(form) {
  const problem = form.querySelector("[data-problem]");
  problem.textContent = "";
  try {
    const deed = form.dataset.passkey === "create" ? create : get;
    form.elements.credential.value = JSON.stringify(await deed(form, await optionsFor(form)));
    form.submit();
  } catch (error) {
    problem.textContent = WORDS[error.name] ?? "That did not work. Reload the page and try again.";
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
}
