// The mesh as this node sees it: itself in the middle, the others around it,
// lines as wide as there is work at their ends.
import { html } from "./vendor/preact-htm.js";
import { count, gib } from "./format.js";
import { gpuText, stateOf } from "./state.js";

export function Topology({ members, chosen, toggle, requests }) {
  const self = members.find((m) => m.self) ?? members[0];
  const others = members.filter((m) => m !== self);
  const many = members.length > 12;
  const recent = sentFrom(requests);
  const plan = many ? wide : close;
  const { width, cx, cy } = plan;
  const placed = others.map((m, i) => ({ m, ...plan.place(i, others.length) }));
  const ys = [cy, ...placed.map((p) => p.y)];
  const top = many ? 0 : Math.min(...ys) - room;
  const height = many ? plan.height : Math.max(...ys) + room - top;
  const busy = members.some((m) => m.in_flight > 0);
  return html`
    <svg class=${"topology" + (many ? " many" : "")} viewBox=${`0 ${top} ${width} ${height}`} role="group"
      aria-label="the nodes and the work on them">
      <g class="edges">${placed.map(({ m, x, y }) => html`<${Edge} key=${m.id} m=${m} x1=${cx} y1=${cy} x2=${x} y2=${y}
        sent=${recent?.get(m.name)} many=${many} />`)}</g>
      ${placed.map(({ m, x, y, angle }) => html`<${Node} key=${m.id} m=${m} x=${x} y=${y} angle=${angle} many=${many}
        chosen=${chosen === m.id} toggle=${toggle} />`)}
      <${Node} key=${self.id} m=${self} x=${cx} y=${cy} many=${many} middle
        chosen=${chosen === self.id} toggle=${toggle} />
    </svg>
    <p class="legend">
      <span><svg width="26" height="8"><path class="edge busy" d="M1 4h24" stroke-width="4" /></svg> requests running there</span>
      <span><svg width="26" height="8"><path class="edge" d="M1 4h24" /></svg> idle</span>
      <span><svg width="26" height="8"><path class="edge dead" d="M1 4h24" /></svg> not reached</span>
      ${!busy && html`<span class="dim">nothing runs now</span>`}
    </p>`;
}

// room is what a node takes above and below its middle, with its name.
const room = 74;

// close is the plan for a household: room for names and hardware. Nobody
// stands straight above the middle, where its own name is.
const close = {
  width: 640, cx: 320, cy: 205,
  place(i, n) {
    const turn = Math.PI / 2 + (n % 2 ? 0 : Math.PI / n) + (2 * Math.PI * i) / n;
    return { x: 320 + 230 * Math.cos(turn), y: 205 + 125 * Math.sin(turn), angle: turn };
  },
};

// wide is the plan for dozens: one ring, names pointing outwards.
const wide = {
  width: 640, height: 640, cx: 320, cy: 320,
  place(i, n) {
    const turn = (2 * Math.PI * i) / n - Math.PI / 2;
    return { x: 320 + 205 * Math.cos(turn), y: 320 + 205 * Math.sin(turn), angle: turn };
  },
};

// sentFrom counts what this node sent to each other in the last minute, null
// where the node does not tell.
function sentFrom(requests) {
  if (!requests) return null;
  const since = Date.now() - 60_000;
  const counts = new Map();
  for (const r of requests) {
    if (Date.parse(r.start) >= since && r.owner) counts.set(r.owner, (counts.get(r.owner) ?? 0) + 1);
  }
  return counts;
}

function Edge({ m, x1, y1, x2, y2, sent, many }) {
  const kind = stateOf(m).kind;
  const gone = kind === "dead" || kind === "silent";
  const busy = !gone && m.in_flight > 0;
  const width = busy ? Math.min(9, 1.5 + 1.8 * Math.sqrt(m.in_flight)) : many ? 0.8 : 1.2;
  return html`<g>
    <line class=${"edge" + (busy ? " busy" : "") + (gone ? " dead" : "")} x1=${x1} y1=${y1} x2=${x2} y2=${y2}
      stroke-width=${width} />
    ${busy && html`<line class="flow" x1=${x1} y1=${y1} x2=${x2} y2=${y2} stroke-width=${Math.max(1, width / 3)} />`}
    ${!many && sent > 0 && html`<text class="sent" x=${(x1 + x2) / 2} y=${(y1 + y2) / 2 - 10}>${sent}/min</text>`}
  </g>`;
}

function Node({ m, x, y, angle, many, middle, chosen, toggle }) {
  const { kind, word } = stateOf(m);
  const r = many ? (middle ? 17 : Math.min(15, 8 + 1.6 * Math.sqrt(m.in_flight))) : 27;
  const label = `${m.name}: ${word}, ${count(m.in_flight, "request")} running, ${m.waiting} waiting`;
  const choose = () => toggle(m.id);
  const key = (e) => {
    if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      choose();
    }
  };
  return html`<g class=${`node ${kind}` + (chosen ? " chosen" : "") + (m.in_flight > 0 ? " busy" : "")}
    transform=${`translate(${x} ${y})`} tabindex="0" role="button" aria-pressed=${chosen} aria-label=${label}
    onClick=${choose} onKeyDown=${key}>
    <title>${label}</title>
    <circle class="ground" r=${r + 4} />
    <circle class="body" r=${r} />
    ${!many && kind !== "dead" && html`<${Gauge} m=${m} r=${r} />`}
    ${kind === "dead"
      ? html`<path class="cross" d=${cross(many ? 4 : 8)} />`
      : (!many || m.in_flight > 0 || middle) && html`<text class="load" dy="0.36em">${m.in_flight}${m.waiting > 0 &&
          html`<tspan class="more">+${m.waiting}</tspan>`}</text>`}
    ${many && !middle ? html`<${Radial} m=${m} angle=${angle} r=${r} />`
      : html`<${Name} m=${m} r=${r} kind=${kind} word=${word} many=${many} above=${middle || Math.sin(angle) < -0.01} />`}
  </g>`;
}

const cross = (d) => `M${-d} ${-d}L${d} ${d}M${-d} ${d}L${d} ${-d}`;

// Gauge is the share of the node's model memory that models take.
function Gauge({ m, r }) {
  const total = m.vram_total || m.ram_total;
  if (!total) return null;
  const used = Math.min(1, m.held.reduce((n, h) => n + (m.vram_total ? h.size_vram : h.size), 0) / total);
  const length = 2 * Math.PI * r;
  return html`<circle class="gauge" r=${r} transform="rotate(-90)"
    stroke-dasharray=${`${used * length} ${length}`} />`;
}

function Name({ m, r, kind, word, many, above }) {
  const memory = m.vram_total || m.ram_total;
  const detail = kind === "up" ? gpuText(m) + (memory ? ` · ${gib(memory)} GiB` : "") : word;
  return html`<text class="label" y=${above ? -(r + (many ? 10 : 27)) : r + 22}>${m.name}</text>
    ${!many && html`<text class="detail" y=${above ? -(r + 11) : r + 38}>${detail}</text>`}`;
}

function Radial({ m, angle, r }) {
  const degrees = (angle * 180) / Math.PI;
  const left = Math.cos(angle) < -0.001;
  return html`<text class=${"label " + (left ? "end" : "start")} dy="0.34em"
    transform=${`rotate(${left ? degrees + 180 : degrees}) translate(${left ? -(r + 7) : r + 7} 0)`}>${m.name}</text>`;
}
