// Recent requests that came in through this node: when, where to, how fast and
// how they ended. Never what was asked or answered.
import { html, useState } from "./vendor/preact-htm.js";
import { clock, millis, short } from "./format.js";

const few = 12;

export function Requests({ requests, chosen }) {
  const [all, showAll] = useState(false);
  const list = requests.filter((r) => !chosen || r.owner === chosen.name);
  if (!list.length) return html`<p class="dim">None yet${chosen ? ` for ${chosen.name}` : ""}.</p>`;
  const shown = all ? list : list.slice(0, few);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="recent requests">
    <table class="requests">
      <thead><tr><th scope="col">time</th><th scope="col">model</th><th scope="col">answered by</th>
        <th scope="col" class="n">first token</th><th scope="col" class="n">tok/s</th><th scope="col" class="n">took</th>
        <th scope="col" class="n">tries</th><th scope="col">outcome</th></tr></thead>
      <tbody>${shown.map((r) => html`<${Row} key=${r.id} r=${r} />`)}</tbody>
    </table></div>
    ${list.length > few && html`<button class="quiet" onClick=${() => showAll(!all)}>${all ? "fewer" : `all ${list.length}`}</button>`}`;
}

const words = {
  "": "running", ok: "ok", "client-gone": "client left", cut: "cut off", rejected: "bad request",
  "not-found": "not found", busy: "all busy", error: "error",
};
const seconds = (s) => (s > 0 ? millis(s * 1000) : "–");

function Row({ r }) {
  const open = !r.outcome;
  const bad = ["cut", "busy", "error"].includes(r.outcome);
  const tries = r.attempts.map((a) => `${a.node}: ${a.result || "…"}`).join(", ");
  return html`<tr class=${open ? "open" : bad ? "bad" : ""} title=${r.id}>
    <td>${clock(new Date(r.start))}</td><td class="model">${r.model || "–"}</td>
    <td>${r.owner || "–"}</td>
    <td class="n">${seconds(r.ttft_seconds)}</td>
    <td class="n">${r.tokens_per_second > 0 ? short(r.tokens_per_second) : "–"}</td>
    <td class="n">${seconds(r.took_seconds)}</td>
    <td class="n" title=${tries}>${r.attempts.length}</td>
    <td>${bad && "✕ "}${words[r.outcome] ?? r.outcome}${r.continued > 0 && html` <span class="tag">continued</span>`}</td></tr>`;
}
