// Runs the official clients against the server at BASE and prints one line of
// JSON for each case: {"name", "value"} or {"name", "error"}. Values hold what
// must be the same on every server: no times, and only answers at temperature 0.
import { Ollama } from "ollama";
import OpenAI from "openai";
import { ChatOllama, Ollama as OllamaLLM, OllamaEmbeddings } from "@langchain/ollama";
import { HumanMessage, SystemMessage } from "@langchain/core/messages";

const base = process.env.BASE;
const ollama = new Ollama({ host: base });
const openai = new OpenAI({ baseURL: base + "/v1", apiKey: "any", maxRetries: 0 });
const few = { num_predict: 12, temperature: 0 };
const hello = [{ role: "user", content: "hello there" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather", description: "weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };

const cases = {};
const shape = (v) =>
  Array.isArray(v) ? (v.length ? [shape(v[0])] : []) :
  v === null ? "null" :
  v instanceof Date ? "date" :
  typeof v === "object" ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, shape(v[k])])) :
  typeof v;
const round = (v) => v.map((x) => Math.round(x * 1e3) / 1e3);
const tried = async (f) => {
  try {
    await f();
  } catch (e) {
    return { name: e.name, status: e.status ?? e.status_code, message: String(e.error?.message ?? e.error ?? e.message).slice(0, 120) };
  }
  throw new Error("no error");
};
const without = (o, ...keys) => Object.fromEntries(Object.entries(o).filter(([k]) => !keys.includes(k)));

// npm ollama
cases["ollama list"] = async () => {
  const { models } = await ollama.list();
  return models.map((m) => [m.name, m.model, m.size > 0, m.digest.length, m.details.format, typeof m.modified_at]).sort();
};
cases["ollama show"] = async () => shape(await ollama.show({ model: "tiny" }));
cases["ollama version"] = async () => shape(await ollama.version());
cases["ollama generate"] = async () => without(await ollama.generate({ model: "tiny", prompt: "hi", options: few }), "created_at", "context",
  "total_duration", "load_duration", "prompt_eval_duration", "eval_duration");
cases["ollama generate stream"] = async () => {
  const parts = [];
  for await (const p of await ollama.generate({ model: "tiny", prompt: "hi", stream: true, options: few })) parts.push([p.response, p.done, p.done_reason]);
  return parts;
};
cases["ollama chat"] = async () => (await ollama.chat({ model: "tiny", messages: hello, options: few })).message;
cases["ollama chat stream"] = async () => {
  const parts = [];
  for await (const p of await ollama.chat({ model: "mid", messages: hello, stream: true, options: few })) parts.push([p.message, p.done]);
  return parts;
};
cases["ollama chat, stops by itself"] = async () => {
  const r = await ollama.chat({ model: "short", messages: hello });
  return [r.message.content, r.done_reason, r.eval_count];
};
cases["ollama chat, characters of several tokens"] = async () => {
  let text = "";
  for await (const p of await ollama.chat({ model: "utf8", messages: hello, stream: true, options: few })) text += p.message.content;
  return text;
};
cases["ollama tools"] = async () => (await ollama.chat({ model: "tool", messages: hello, tools: [weather], options: { temperature: 0 } })).message.tool_calls.map((c) => c.function.name + JSON.stringify(c.function.arguments));
cases["ollama tools stream"] = async () => {
  const calls = [];
  for await (const p of await ollama.chat({ model: "tool", messages: hello, tools: [weather], stream: true, options: { temperature: 0 } }))
    for (const c of p.message.tool_calls ?? []) calls.push(c.function.name);
  return calls;
};
cases["ollama thinking"] = async () => {
  const r = await ollama.chat({ model: "think", messages: hello, think: true, options: few });
  return [r.message.thinking, r.message.content];
};
cases["ollama schema"] = async () => JSON.parse((await ollama.chat({ model: "tiny", messages: hello, format: schema, options: { num_predict: 200, temperature: 0 } })).message.content);
cases["ollama embed batch"] = async () => (await ollama.embed({ model: "embed", input: ["one", "two", "three"] })).embeddings.map(round);
cases["ollama embeddings"] = async () => round((await ollama.embeddings({ model: "embed", prompt: "one" })).embedding);
cases["ollama load and unload"] = async () => {
  const a = await ollama.generate({ model: "tiny2", prompt: "", keep_alive: "5m" });
  const b = await ollama.generate({ model: "tiny2", prompt: "", keep_alive: 0 });
  return [a.done_reason, b.done_reason];
};
cases["ollama abort"] = async () => {
  const one = new Ollama({ host: base });
  const stream = await one.generate({ model: "loop", prompt: "hi", stream: true, options: { num_predict: 2000 } });
  return tried(async () => {
    for await (const _ of stream) stream.abort();
  });
};
cases["ollama copy and delete"] = async () => {
  const a = await ollama.copy({ source: "short", destination: "short-copy" });
  const there = (await ollama.list()).models.some((m) => m.name === "short-copy:latest");
  const r = await ollama.chat({ model: "short-copy", messages: hello });
  const b = await ollama.delete({ model: "short-copy" });
  const gone = !(await ollama.list()).models.some((m) => m.name === "short-copy:latest");
  return [a, there, r.message.content, b, gone];
};
cases["ollama create"] = async () => {
  const steps = [];
  for await (const s of await ollama.create({ model: "made", from: "short", system: "be brief", stream: true })) steps.push(s.status.split(" ")[0]);
  const shown = await ollama.show({ model: "made" });
  await ollama.delete({ model: "made" });
  return [steps.at(-1), shown.system];
};
cases["ollama unknown model, chat"] = () => tried(() => ollama.chat({ model: "nosuch", messages: hello }));
cases["ollama unknown model, generate stream"] = () => tried(() => ollama.generate({ model: "nosuch", prompt: "x", stream: true }));
cases["ollama unknown model, show"] = () => tried(() => ollama.show({ model: "nosuch" }));
cases["ollama unknown model, delete"] = () => tried(() => ollama.delete({ model: "nosuch" }));
cases["ollama unknown model, copy"] = () => tried(() => ollama.copy({ source: "nosuch", destination: "x" }));
cases["ollama unknown model, embed"] = () => tried(() => ollama.embed({ model: "nosuch", input: "x" }));
cases["ollama think unsupported"] = () => tried(() => ollama.chat({ model: "tiny", messages: hello, think: true }));
cases["ollama pull from nowhere"] = () => tried(() => ollama.pull({ model: "127.0.0.1:1/library/nosuch", insecure: true }));
cases["ollama ps"] = async () => {
  await ollama.generate({ model: "tiny", prompt: "", keep_alive: "5m" });
  for (let i = 0; i < 100; i++) { // a mesh hears of it within a second
    const { models } = await ollama.ps();
    const m = models.find((m) => m.name === "tiny:latest");
    if (m) return [m.model, m.size > 0, typeof m.expires_at, m.details.format];
    await new Promise((r) => setTimeout(r, 50));
  }
  throw new Error("not in ps");
};

// npm openai
cases["openai models"] = async () => (await openai.models.list()).data.map((m) => [m.id, m.object, m.owned_by, typeof m.created]).sort();
cases["openai model"] = async () => without(await openai.models.retrieve("tiny"), "created");
cases["openai chat"] = async () => {
  const r = await openai.chat.completions.create({ model: "tiny", messages: hello, max_tokens: 12, temperature: 0 });
  return [r.object, r.choices[0].message, r.choices[0].finish_reason, r.usage];
};
cases["openai chat stream"] = async () => {
  const parts = [];
  for await (const c of await openai.chat.completions.create({ model: "tiny", messages: hello, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true } }))
    parts.push([c.object, c.choices[0]?.delta?.content, c.choices[0]?.finish_reason, c.usage]);
  return parts;
};
cases["openai tools"] = async () => {
  const r = await openai.chat.completions.create({ model: "tool", messages: hello, tools: [weather], temperature: 0 });
  return [r.choices[0].finish_reason, r.choices[0].message.tool_calls.map((c) => [c.type, c.function])];
};
cases["openai tools stream"] = async () => {
  const calls = [];
  for await (const c of await openai.chat.completions.create({ model: "tool", messages: hello, tools: [weather], temperature: 0, stream: true }))
    for (const t of c.choices[0]?.delta?.tool_calls ?? []) calls.push(t.function.name);
  return calls;
};
cases["openai json schema"] = async () => JSON.parse((await openai.chat.completions.create({
  model: "tiny", messages: hello, temperature: 0, max_tokens: 200,
  response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
})).choices[0].message.content);
cases["openai completions"] = async () => {
  const r = await openai.completions.create({ model: "tiny", prompt: "hi", max_tokens: 12, temperature: 0 });
  return [r.object, r.choices[0].text, r.choices[0].finish_reason];
};
cases["openai embeddings"] = async () => {
  const r = await openai.embeddings.create({ model: "embed", input: ["one", "two"], encoding_format: "float" });
  return [r.object, r.data.map((d) => [d.index, round(d.embedding)])];
};
cases["openai unknown model"] = () => tried(() => openai.chat.completions.create({ model: "nosuch", messages: hello }));
cases["openai unknown model, stream"] = () => tried(() => openai.chat.completions.create({ model: "nosuch", messages: hello, stream: true }));
cases["openai no messages"] = () => tried(() => openai.chat.completions.create({ model: "tiny", messages: [] }));
cases["openai unknown model, retrieve"] = () => tried(() => openai.models.retrieve("nosuch"));

// @langchain/ollama
const lc = (model, more) => new ChatOllama({ baseUrl: base, model, temperature: 0, numPredict: 12, ...more });
cases["langchain invoke"] = async () => (await lc("tiny").invoke([new SystemMessage("be brief"), new HumanMessage("hi")])).content;
cases["langchain stream"] = async () => {
  const parts = [];
  for await (const c of await lc("tiny").stream("hi")) parts.push(c.content);
  return parts;
};
cases["langchain tools"] = async () => (await lc("tool", { numPredict: -1 }).bindTools([weather]).invoke("weather?")).tool_calls.map((c) => [c.name, c.args]);
cases["langchain completion"] = async () => new OllamaLLM({ baseUrl: base, model: "tiny", temperature: 0, numPredict: 12 }).invoke("hi");
cases["langchain embeddings"] = async () => (await new OllamaEmbeddings({ baseUrl: base, model: "embed" }).embedDocuments(["one", "two"])).map(round);
cases["langchain unknown model"] = () => tried(() => lc("nosuch").invoke("hi"));

const only = process.env.ONLY;
for (const [name, run] of Object.entries(cases)) {
  if (only && !name.includes(only)) continue;
  let line;
  try {
    const value = await Promise.race([
      run(),
      new Promise((_, no) => setTimeout(() => no(new Error("no answer within 60 s")), 60000).unref()),
    ]);
    line = { name, value: value ?? null };
  } catch (e) {
    line = { name, error: String(e?.message ?? e) };
  }
  console.log(JSON.stringify(line));
}
process.exit(0);
