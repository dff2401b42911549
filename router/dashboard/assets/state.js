// What a node's state is called and how it is marked. Every state has a word
// and a shape of its own; colour only repeats them.
import { html } from "./vendor/preact-htm.js";
import { span } from "./format.js";

export function stateOf(m) {
  if (m.status === "failed" || m.status === "left") return { kind: "dead", word: m.status };
  if (m.silent_s > 0) return { kind: "silent", word: `silent ${span(m.silent_s)}` };
  if (m.status === "draining") return { kind: "draining", word: "draining" };
  if (!m.serving) return { kind: "hollow", word: m.role === "router" ? "router only" : "no Ollama" };
  return { kind: "up", word: "up" };
}

// ago tells how long a status has lasted, by this machine's clock.
export function ago(since, now) {
  const t = Date.parse(since);
  return Number.isNaN(t) ? "" : span((now - t) / 1000);
}

const shapes = {
  up: html`<circle cx="6" cy="6" r="4.5" class="solid" />`,
  draining: html`<circle cx="6" cy="6" r="4" /><path d="M6 2a4 4 0 0 1 0 8z" class="solid" />`,
  hollow: html`<circle cx="6" cy="6" r="4" />`,
  silent: html`<circle cx="6" cy="6" r="4" stroke-dasharray="2 2.2" />`,
  dead: html`<path d="M2.5 2.5l7 7m0-7l-7 7" />`,
};

export function Mark({ kind }) {
  return html`<svg class="mark ${kind}" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">${shapes[kind]}</svg>`;
}

// gpuText is a node's hardware in a few words.
export function gpuText(m) {
  const name = m.gpu_name.replace(/^NVIDIA (GeForce )?|^AMD |^Intel(\(R\))? |^Apple /, "");
  return name || (m.gpu === "cpu" || !m.gpu ? "CPU" : m.gpu.toUpperCase());
}
