// One card per node: what it is, what its memory holds, what it does.
import { html } from "./vendor/preact-htm.js";
import { count, gib, millis, short, size } from "./format.js";
import { Mark, ago, gpuText, stateOf } from "./state.js";

export function Nodes({ members, chosen, toggle, now, history }) {
  return html`<ul class="nodes">${members.map((m) => html`<${Card} key=${m.id} m=${m} now=${now}
    chosen=${chosen === m.id} toggle=${toggle} compact=${members.length > 12} series=${history?.nodes[m.id]} />`)}</ul>`;
}

function Card({ m, now, chosen, toggle, compact, series }) {
  const { kind, word } = stateOf(m);
  const gone = kind === "dead";
  return html`<li class=${`card ${kind}` + (chosen ? " chosen" : "")} data-node=${m.name}>
    <button class="head" aria-pressed=${chosen} onClick=${() => toggle(m.id)}>
      <${Mark} kind=${kind} /><span class="who">${m.name}</span>
      ${m.self && html`<span class="tag">this node</span>`}
      <span class="word">${word}${gone && html` <span class="since">${ago(m.since, now)} ago</span>`}</span>
    </button>
    <p class="what">${gpuText(m)}${m.ollama_version && !compact && html` · Ollama ${m.ollama_version}`}</p>
    ${gone && html`<p class="last">Its last known memory and models are kept for its return.</p>`}
    <${Memories} m=${m} gone=${gone} compact=${compact} />
    ${!compact && html`<${Held} m=${m} gone=${gone} />`}
    ${!gone && html`<p class="figures">
      <span title="requests that run"><b>${m.in_flight}</b> running</span>
      ${m.waiting > 0 && html`<span title="requests that wait"><b>${m.waiting}</b> waiting</span>`}
      ${m.tokens_per_second > 0 && html`<span title="of a lone request, measured"><b>${short(m.tokens_per_second)}</b> tok/s</span>`}
      ${!compact && m.rtt_ms > 0 && html`<span title="round trip">${millis(m.rtt_ms)}</span>`}
      ${!compact && html`<${Spark} values=${series?.in_flight} />`}
    </p>`}
  </li>`;
}

// Memories are the bars of GPU memory and RAM; a machine whose GPU shares its
// RAM has one.
function Memories({ m, gone, compact }) {
  const held = gone ? [] : m.held;
  const bars = [];
  if (m.vram_total) {
    bars.push({
      name: m.unified_memory ? "shared" : "GPU", total: m.vram_total, free: m.vram_free,
      parts: held.map((h) => ({ name: h.name, n: m.unified_memory ? h.size : h.size_vram })),
    });
  }
  if (m.ram_total && !m.unified_memory && !(compact && m.vram_total)) {
    bars.push({
      name: "RAM", total: m.ram_total, free: m.ram_free,
      parts: held.map((h) => ({ name: h.name, n: h.size - Math.min(h.size, h.size_vram) })),
    });
  }
  return html`<div class="memories">${bars.map((b) => html`<${Bar} ...${b} gone=${gone} />`)}</div>`;
}

function Bar({ name, total, free, parts, gone }) {
  parts = parts.filter((p) => p.n > 0);
  const models = parts.reduce((n, p) => n + p.n, 0);
  // Some drivers do not say what is free; then only what models take is known.
  const known = free > 0 || models > 0;
  const rest = Math.max(0, total - models - free);
  const other = !gone && free > 0 && rest > total * 0.005 ? rest : 0;
  const left = free > 0 ? free : Math.max(0, total - models);
  const text = gone ? `${gib(total)} GiB` : known ? `${gib(Math.min(left, total))} free of ${gib(total)} GiB` : `${gib(total)} GiB`;
  const spoken = `${name} memory: models ${size(models)}, other ${size(other)}, ${text}`;
  const share = (n) => ({ width: `${Math.min(100, (100 * n) / total)}%` });
  return html`<div class="bar" role="img" aria-label=${spoken} title=${spoken}>
    <span class="kind">${name}</span>
    <span class="track">${parts.map((p) => html`<i class="model" style=${share(p.n)}></i>`)}${other > 0 &&
      html`<i class="other" style=${share(other)}></i>`}</span>
    <span class="amount">${text}</span>
  </div>`;
}

function Held({ m, gone }) {
  const disk = m.models.length;
  if (gone) return html`<p class="holds dim">${count(disk, "model")} on disk</p>`;
  const more = disk - m.held.length;
  return html`<p class="holds">
    ${m.held.map((h) => html`<span class=${"chip" + (h.loading ? " loading" : "")} title=${size(h.size)}>${h.name}${h.loading &&
      " loading"}${h.in_flight > 0 && html` <b>${h.in_flight}</b>`}</span>`)}
    <span class="dim">${m.held.length ? `${more > 0 ? `${more} more on disk` : ""}` : disk ? `nothing loaded, ${count(disk, "model")} on disk` : "no models"}</span>
  </p>`;
}

// Spark is the work of the last hour, small.
function Spark({ values }) {
  if (!values || values.length < 2) return null;
  const [w, h] = [96, 18];
  const top = Math.max(1, ...values);
  const points = values.map((v, i) => `${((i / (values.length - 1)) * w).toFixed(1)},${(h - 1 - (v / top) * (h - 2)).toFixed(1)}`);
  return html`<svg class="spark" viewBox=${`0 0 ${w} ${h}`} width=${w} height=${h} aria-hidden="true">
    <polyline points=${points.join(" ")} /></svg>`;
}
