// Vercel's AI SDK against our image routes, by both of its doors. Says what it saw as JSON.
import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateImage } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const { BASE, KEY, PHOTO } = process.env;
const settings = { name: "flux", baseURL: `${BASE}/v1`, apiKey: KEY };
const doors = { openai: createOpenAI(settings), compatible: createOpenAICompatible(settings) };
const images = [readFileSync(PHOTO)];

const seen = {};
for (const [name, door] of Object.entries(doors)) {
  const model = door.imageModel("flux-2/pro-text-to-image");
  const made = await generateImage({ model, prompt: "a fox in the snow", n: 2, size: "1536x1024" });
  const edited = await generateImage({
    model: door.imageModel("flux-2/pro-image-to-image"), prompt: { text: "make it autumn", images },
  });
  let refusal = {};
  try {
    await generateImage({ model, prompt: "a fox [moderated]" });
  } catch (error) {
    refusal = { is: APICallError.isInstance(error), status: error.statusCode, message: error.message };
  }
  seen[name] = { made: made.images.map((one) => one.mediaType), edited: edited.images.length, refusal };
}
console.log(JSON.stringify(seen));
