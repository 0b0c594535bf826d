// Standard Webhooks' own verifier on a message of ours: as it came, and with one character more.
import { Webhook } from "standardwebhooks";

const { SECRET, MESSAGE } = process.env;
const { headers, body } = JSON.parse(MESSAGE);
const verified = new Webhook(SECRET).verify(body, headers);
let refused = "";
try {
  new Webhook(SECRET).verify(`${body} `, headers);
} catch (error) {
  refused = error.constructor.name;
}
console.log(JSON.stringify({ taskId: verified.taskId, state: verified.data.state, refused }));
