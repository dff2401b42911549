// What a person may order for a model on a node: pull it, load it, unload it.
// The same calls as `kage-mesh models` makes, to the node whose page this is.
import { size } from "./format.js";

// would asks the node how models would run where, null where it does not tell.
export async function would() {
  try {
    const answer = await fetch("/mesh/v1/models");
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

export const pull = (model, node, tell) => run(tell, "pulled", `/api/pull?node=${encodeURIComponent(node)}`, {}, { model, stream: true });

export const load = (model, node, embeds, tell) => warm(tell, "loaded", model, node, embeds, {});

export const unload = (model, node, embeds, tell) => warm(tell, "unloaded", model, node, embeds, { keep_alive: 0 });

// warm sends a request without a prompt: Ollama loads or unloads and answers.
function warm(tell, done, model, node, embeds, more) {
  const body = embeds ? { model, input: [], ...more } : { model, stream: false, ...more };
  return run(tell, done, embeds ? "/api/embed" : "/api/generate", { "X-Kage-Node": node }, body);
}

// run calls tell({text, share, ended, failed}) until the order has ended.
async function run(tell, done, path, headers, body) {
  tell({ text: "asked" });
  try {
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(wrong(await answer.text()) || `the node answers ${answer.status}`);
    for await (const line of lines(answer.body)) {
      const step = JSON.parse(line);
      if (step.error) throw new Error(wrong(line));
      if (step.total > 0) {
        const share = (step.completed ?? 0) / step.total;
        tell({ text: `${size(step.completed ?? 0)} of ${size(step.total)}`, share });
      } else if (step.status && step.status !== "success") {
        tell({ text: step.status });
      }
    }
    tell({ text: done, ended: true });
  } catch (e) {
    tell({ text: e.message, ended: true, failed: true });
  }
}

// wrong finds the message in an error of Ollama's dialect.
function wrong(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : error?.message;
  } catch {
    return text.slice(0, 200);
  }
}

// lines are those of a body as they come.
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.filter((l) => l.trim());
  }
  if (rest.trim()) yield rest;
}
