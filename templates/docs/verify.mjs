import { Webhook } from "standardwebhooks"; // npm install standardwebhooks

/** `body` is the raw body as text; `secret` begins with whsec_ and stands under Settings, Webhooks. */
export function isOurs(body, headers, secret) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}
