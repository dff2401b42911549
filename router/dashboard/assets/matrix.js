// Which node has which model, on disk and in memory, and what can be done
// about it.
import { html, useEffect, useReducer, useState } from "./vendor/preact-htm.js";
import { size } from "./format.js";
import { load, pull, unload, would } from "./orders.js";
import { stateOf } from "./state.js";

const keyOf = (model, node) => `${node} ${model}`;
const words = { held: "in memory", loading: "loading", disk: "on disk", none: "not there" };

export function Matrix({ members, models, chosen, toggle }) {
  const [picked, pick] = useState(null); // {model, node}, names
  const [jobs, note] = useReducer((all, [key, job]) => ({ ...all, [key]: job }), {});
  if (!models.length) return html`<p class="dim">No node has a model yet. Try: ollama pull qwen2.5:3b</p>`;
  const columns = members.map((m) => ({
    m, kind: stateOf(m).kind, disk: new Set(m.models), held: new Map(m.held.map((h) => [h.name, h])),
  }));
  const upright = members.length > 8;
  const open = picked && columns.find((c) => c.m.name === picked.node);
  const index = picked ? models.findIndex((m) => m.name === picked.model) : -1;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="models by node">
    <table class=${"matrix" + (upright ? " upright" : "")}>
      <thead><tr><th scope="col" class="corner">model</th><th scope="col" class="size">on disk</th>
        ${columns.map(({ m, kind }) => html`<th scope="col" key=${m.id} class=${`node ${kind}` + (chosen === m.id ? " chosen" : "")}>
          <button onClick=${() => toggle(m.id)} title=${m.name}>${m.name}</button></th>`)}
      </tr></thead>
      <tbody>${models.map((model, i) => html`<tr key=${model.name}>
        <th scope="row">${model.name}${model.cloud && html` <span class="tag">cloud</span>`}</th>
        <td class="size">${model.size ? size(model.size) : "–"}</td>
        ${columns.map((c) => html`<${Cell} key=${c.m.id} column=${c} model=${model} index=${i} chosen=${chosen === c.m.id}
          job=${jobs[keyOf(model.name, c.m.name)]} picked=${open === c && index === i}
          pick=${() => pick(open === c && index === i ? null : { model: model.name, node: c.m.name })} />`)}
      </tr>`)}</tbody>
    </table></div>
    ${open && index >= 0 && html`<${Order} key=${keyOf(picked.model, picked.node)} model=${models[index]} node=${picked.node}
      state=${stateIn(open, models[index], index)} job=${jobs[keyOf(picked.model, picked.node)]}
      note=${(job) => note([keyOf(picked.model, picked.node), job])} close=${() => pick(null)} />`}
    <p class="legend"><span><i class="cell held"></i> in memory</span> <span><i class="cell loading"></i> loading</span>
      <span><i class="cell disk"></i> on disk</span> <span><i class="cell none"></i> not there</span>
      <span class="dim">choose one to pull or load</span></p>`;
}

function stateIn({ disk, held }, model, index) {
  const h = held.get(model.name);
  return h ? (h.loading ? "loading" : "held") : disk.has(index) ? "disk" : "none";
}

function Cell({ column, model, index, chosen, job, picked, pick }) {
  const { m, kind, held } = column;
  const state = stateIn(column, model, index);
  const running = held.get(model.name)?.in_flight ?? 0;
  const busy = job && !job.ended;
  const spoken = `${model.name} on ${m.name}: ${words[state]}${running ? `, ${running} running` : ""}${busy ? `, ${job.text}` : ""}`;
  const mark = html`<i class=${`cell ${busy ? "loading" : state}`} role="img" aria-label=${spoken} title=${spoken}>${running > 0 && running}</i>`;
  return html`<td class=${(kind === "dead" ? "dead" : "") + (chosen ? " chosen" : "")}>
    ${kind === "dead" || model.cloud ? mark : html`<button class=${"order" + (picked ? " picked" : "")} aria-pressed=${picked} onClick=${pick}>${mark}</button>`}</td>`;
}

// Order is what can be done with one model on one node.
function Order({ model, node, state, job, note, close }) {
  const [known, know] = useState(undefined); // undefined: not asked yet
  useEffect(() => {
    would().then(know);
  }, []);
  const row = known?.models.find((m) => m.name === model.name);
  const fits = row?.on[node]?.fits;
  const busy = job && !job.ended;
  const runs = {
    full: "It would run on the GPU, beside other models.", tight: "It would run on the GPU, with nothing beside it.",
    partial: "It would run partly on the GPU.", cpu: "It would run on the processor.", none: "It does not fit there.",
  }[fits];
  const button = (name, act, off) => html`<button class="act" disabled=${busy || off} onClick=${act}>${name}</button>`;
  return html`<div class="orders" data-order=${keyOf(model.name, node)}>
    <p><b>${model.name}</b> on <b>${node}</b>: ${words[state]}. ${runs}</p>
    <p class="acts">
      ${state === "none" && button(`Pull ${model.size ? size(model.size) : ""}`, () => pull(model.name, node, note), known === undefined || fits === "none")}
      ${state === "disk" && button("Load into memory", () => load(model.name, node, row?.embeds, note), known === undefined || fits === "none")}
      ${state === "held" && button("Unload", () => unload(model.name, node, row?.embeds, note), known === undefined)}
      <button class="quiet" onClick=${close}>close</button>
    </p>
    <p class=${"job" + (job?.failed ? " failed" : "")} role="status">${job?.failed && "✕ "}${job?.text}
      ${busy && job.share >= 0 && html`<progress max="1" value=${job.share} aria-label="pulled"></progress>`}</p>
  </div>`;
}
