// Three calls at once where one is let through in a second: the client waits as it is told, and all are answered.
import OpenAI from "openai";

const { BASE, KEY } = process.env;
const told = [];
const counted = async (...args) => {
  const response = await fetch(...args);
  told.push([response.status, response.headers.get("retry-after"), response.headers.get("x-should-retry")]);
  return response;
};
const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, fetch: counted, maxRetries: 5 });
const begun = Date.now();
const made = await Promise.all([1, 2].map(() => client.images.generate({ prompt: "a fox in the snow" })));
console.log(JSON.stringify({ pictures: made.map((one) => one.data.length), told, ms: Date.now() - begun }));
