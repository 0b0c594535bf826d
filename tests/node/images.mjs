// The stock `openai` client against our image routes. Says what it saw as JSON.
import { readFileSync } from "node:fs";
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError, toFile } from "openai";

const { BASE, KEY, PHOTO } = process.env;
let calls = 0;
const counted = (...args) => { calls += 1; return fetch(...args); };
const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, fetch: counted });
const photo = (name) => toFile(readFileSync(PHOTO), name, { type: "image/jpeg" });

async function failure(promise) {
  calls = 0;
  try {
    await promise();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param, calls };
  }
  return { kind: "none", calls };
}

const seen = {};
const { data: made, response } = await client.images
  .generate({ model: "flux-2/pro-text-to-image", prompt: "a fox in the snow", size: "1536x1024" })
  .withResponse();
seen.url = made.data[0].url;
seen.bytes = (await (await fetch(seen.url)).arrayBuffer()).byteLength;
seen.charged = response.headers.get("x-ai-credits-charged");
const coded = await client.images.generate({ prompt: "a fox", response_format: "b64_json", output_format: "png" });
seen.magic = Buffer.from(coded.data[0].b64_json, "base64").subarray(1, 4).toString();
const one = await client.images.edit({ image: await photo("a.jpg"), prompt: "make it autumn" });
const two = await client.images.edit({ image: [await photo("a.jpg"), await photo("b.jpg")], prompt: "make it spring" });
seen.edited = [one.data.length, two.data.length];
seen.models = (await client.models.list()).data.map((model) => model.id);
seen.model = (await client.models.retrieve("flux-2/pro-text-to-image")).owned_by;

seen.failures = {
  bad: await failure(() => client.images.generate({ prompt: "a fox", size: "big" })),
  model: await failure(() => client.images.generate({ prompt: "a fox", model: "dall-e-3" })),
  key: await failure(() => client.withOptions({ apiKey: "sk-aig-nonsense" }).images.generate({ prompt: "a fox" })),
  moderated: await failure(() => client.images.generate({ prompt: "a fox [moderated]" })),
  poor: await failure(() => client.images.generate({ prompt: "a fox [insufficient credits]" })),
  broken: await failure(() => client.images.generate({ prompt: "a fox [upstream error]" })),
  limited: await failure(() => client.images.generate({ prompt: "a fox [rate limit]" })),
};
seen.classes = [BadRequestError, NotFoundError, AuthenticationError, APIError].map((kind) => kind.name);
console.log(JSON.stringify(seen));
