// Which node has which model, on disk and in memory.
import { html } from "./vendor/preact-htm.js";
import { size } from "./format.js";
import { stateOf } from "./state.js";

export function Matrix({ members, models, chosen, toggle }) {
  if (!models.length) return html`<p class="dim">No node has a model yet. Try: ollama pull qwen2.5:3b</p>`;
  const columns = members.map((m) => ({
    m, kind: stateOf(m).kind, disk: new Set(m.models), held: new Map(m.held.map((h) => [h.name, h])),
  }));
  const upright = members.length > 8;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="models by node">
    <table class=${"matrix" + (upright ? " upright" : "")}>
      <thead><tr><th scope="col" class="corner">model</th><th scope="col" class="size">on disk</th>
        ${columns.map(({ m, kind }) => html`<th scope="col" key=${m.id} class=${`node ${kind}` + (chosen === m.id ? " chosen" : "")}>
          <button onClick=${() => toggle(m.id)} title=${m.name}>${m.name}</button></th>`)}
      </tr></thead>
      <tbody>${models.map((model, i) => html`<tr key=${model.name}>
        <th scope="row">${model.name}${model.cloud && html` <span class="tag">cloud</span>`}</th>
        <td class="size">${model.size ? size(model.size) : "–"}</td>
        ${columns.map((c) => html`<${Cell} key=${c.m.id} column=${c} model=${model} index=${i} chosen=${chosen === c.m.id} />`)}
      </tr>`)}</tbody>
    </table></div>
    <p class="legend"><span><i class="cell held"></i> in memory</span> <span><i class="cell loading"></i> loading</span>
      <span><i class="cell disk"></i> on disk</span> <span><i class="cell none"></i> not there</span></p>`;
}

function Cell({ column, model, index, chosen }) {
  const { m, kind, disk, held } = column;
  const h = held.get(model.name);
  const state = h ? (h.loading ? "loading" : "held") : disk.has(index) ? "disk" : "none";
  const words = { held: "in memory", loading: "loading", disk: "on disk", none: "not there" };
  const running = h?.in_flight ?? 0;
  const spoken = `${model.name} on ${m.name}: ${words[state]}${running ? `, ${running} running` : ""}`;
  return html`<td class=${(kind === "dead" ? "dead" : "") + (chosen ? " chosen" : "")}>
    <i class=${`cell ${state}`} role="img" aria-label=${spoken} title=${spoken}>${running > 0 && running}</i></td>`;
}
