// The last hour, drawn by uPlot: work, memory, nodes. One node's when it is
// chosen.
import { html, useEffect, useRef } from "./vendor/preact-htm.js";
import { gib, number } from "./format.js";

const GiB = 1024 ** 3;
const hour = 3600;
const least = 600; // seconds shown, however young the node is

export function Charts({ history, chosen, members }) {
  if (!history) return html`<p class="dim">…</p>`;
  const all = Object.values(history.nodes);
  const nodes = chosen ? [history.nodes[chosen]].filter(Boolean) : all;
  const total = (key) => history.times.map((_, i) => nodes.reduce((n, s) => n + s[key][i], 0));
  const vram = total("vram").map((n) => n / GiB);
  const both = total("ram").map((n, i) => n / GiB + vram[i]);
  const t = history.times;
  return html`<div class="charts">
    <${Chart} title="Requests" unit="" t=${t} floor=${2} lines=${[
      { name: "running", values: total("in_flight"), look: "fill" },
      { name: "waiting", values: total("waiting"), look: "dash" },
    ]} />
    <${Chart} title="Tokens written" unit="/s" t=${t} floor=${10} lines=${[
      { name: "", values: total("tokens_per_second"), look: "fill" },
    ]} />
    <${Chart} title="Memory that models take" unit=" GiB" t=${t} floor=${4} lines=${[
      { name: "with RAM", values: both, look: "pale", show: (_, i) => `${gib(both[i] * GiB - vram[i] * GiB)} GiB RAM` },
      { name: "GPU", values: vram, look: "fill", show: (v) => `${gib(v * GiB)} GiB GPU` },
    ]} />
    <${Chart} title=${chosen ? "Up" : "Nodes up"} unit="" t=${t} floor=${chosen ? 1 : Math.max(2, members.length)} lines=${[
      { name: "up", values: total("up"), look: "step" },
    ]} />
    ${t.length < 3 && html`<p class="dim note">The node keeps the last hour from its start on; a point every ten seconds.</p>`}
  </div>`;
}

function Chart({ title, t, lines, unit, floor }) {
  const place = useRef(null);
  const legend = useRef(null);
  const kept = useRef(null);
  kept.current = { ...kept.current, lines, unit, t };
  useEffect(() => {
    const make = () => {
      kept.current.plot?.destroy();
      kept.current.plot = plot(place.current, kept, legend.current, floor);
    };
    make();
    const sizes = new ResizeObserver(() => kept.current.plot.setSize({ width: place.current.clientWidth, height: place.current.clientHeight }));
    sizes.observe(place.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", make);
    return () => {
      sizes.disconnect();
      dark.removeEventListener("change", make);
      kept.current.plot.destroy();
    };
  }, [lines.length, floor]);
  useEffect(() => {
    kept.current.plot.setData([t, ...lines.map((l) => l.values)]);
    say(kept, legend.current, null);
  });
  return html`<figure><figcaption>${title} <span class="values" ref=${legend}></span></figcaption>
    <div class="plot" ref=${place} role="img" aria-label=${`${title}, last hour`}></div></figure>`;
}

// say writes the values under the cursor, or the newest, beside the title.
function say(kept, to, at) {
  const { lines, t, unit } = kept.current;
  const i = at ?? t.length - 1;
  if (!to) return;
  if (i < 0) {
    to.textContent = "";
    return;
  }
  const texts = lines.map((l) => {
    const v = l.values[i] ?? 0;
    return l.show ? l.show(v, i) : `${number(v, Number.isInteger(v) ? 0 : 1)}${unit} ${l.name}`;
  });
  const when = at == null ? "" : new Date(t[i] * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }) + " · ";
  to.textContent = when + texts.reverse().join(" · ");
}

// ends are the ends of the time axis: what there is, but never next to nothing.
function ends(min, max) {
  const to = max || Date.now() / 1000;
  return [Math.max(to - hour, Math.min(min || to, to - least)), to];
}

function plot(place, kept, legend, floor) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(`--${name}`).trim();
  const looks = {
    fill: { stroke: colour("accent"), fill: colour("accent-wash"), width: 1.5 },
    pale: { stroke: colour("accent-pale"), fill: colour("accent-faint"), width: 1 },
    dash: { stroke: colour("caution"), dash: [4, 3], width: 1.5 },
    step: { stroke: colour("accent"), fill: colour("accent-wash"), width: 1.5, paths: uPlot.paths.stepped({ align: -1 }) },
  };
  const font = `11px ${css.getPropertyValue("--sans")}`;
  const axis = { stroke: colour("muted"), font, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  const { t, lines } = kept.current;
  return new uPlot({
    width: place.clientWidth || 300, height: place.clientHeight || 112, padding: [6, 14, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "hour" }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: (_, min, max) => ends(min, max) },
      y: { range: (_, __, max) => [0, Math.max(floor, (max || 0) * 1.08)] },
    },
    axes: [
      { ...axis, size: 22, space: 70, values: (_, ticks) => ticks.map((s) => new Date(s * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })) },
      { ...axis, size: 34, space: 28, values: (_, ticks) => ticks.map((v) => (Number.isInteger(v) ? v : "")) },
    ],
    series: [{}, ...lines.map((l) => ({ ...looks[l.look], points: { show: false } }))],
    hooks: { setCursor: [(u) => say(kept, legend, u.cursor.idx)] },
  }, [t, ...lines.map((l) => l.values)], place);
}
