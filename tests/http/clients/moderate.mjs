// Asks a moderation server as users of OpenAI's client do: only the base URL is another one.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [modules, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(pathToFileURL(`${modules}/openai/index.mjs`));
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const one = await client.moderations.create({ model: "omni-moderation-latest", input: "I will kill you" });
assert.equal(one.results[0].flagged, true);
assert.equal(one.results[0].categories.violence, true);
assert.equal(one.results[0].category_scores.violence, 0.9);
assert.equal(one.results[0].categories["self-harm/intent"], false);
assert.deepEqual(one.results[0].category_applied_input_types.violence, ["text"]);

const several = await client.moderations.create({ input: ["hello", "I will kill you"] });
assert.deepEqual(several.results.map((result) => result.flagged), [false, true]);

const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
await assert.rejects(client.moderations.create({ input: [image] }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.code, "image_not_supported");
  return true;
});
const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
await assert.rejects(stranger.moderations.create({ input: "hello" }), OpenAI.AuthenticationError);

console.log("javascript", OpenAI.name);
