// The page: what stands where. All parts draw the same picture.
import { html, render, useEffect, useReducer, useState } from "./vendor/preact-htm.js";
import { count, natural, span } from "./format.js";
import { follow } from "./feed.js";
import { Mark, ago, stateOf } from "./state.js";
import { Topology } from "./topology.js";
import { Charts } from "./charts.js";
import { Nodes } from "./nodes.js";
import { Matrix } from "./matrix.js";
import { Requests } from "./requests.js";

function Page() {
  const [s, tell] = useReducer((old, change) => ({ ...old, ...change }), { live: false, heard: 0 });
  const [chosen, choose] = useState(null);
  useEffect(() => follow(tell), []);
  const p = s.picture;
  if (!p) {
    return html`<p class="before">${s.live === false && s.heard ? "The node does not answer." : "Asking the node …"}</p>`;
  }
  const members = p.members.filter((m) => m.status !== "left").sort((a, b) => natural(a.name, b.name));
  const toggle = (id) => choose(chosen === id ? null : id);
  const picked = members.find((m) => m.id === chosen);
  const now = Date.now();
  const common = { members, models: p.models, chosen: picked?.id, toggle, now };
  return html`
    <div class=${"page" + (s.live ? "" : " stale") + (members.length > 12 ? " many" : "")}>
      <${Head} picture=${p} members=${members} live=${s.live} heard=${s.heard} now=${now} />
      <main>
        <section class="mesh" aria-labelledby="h-mesh">
          <h2 id="h-mesh">Mesh</h2>
          <${Topology} ...${common} requests=${s.requests} />
        </section>
        <section class="hour" aria-labelledby="h-hour">
          <h2 id="h-hour">Last hour ${picked && html`<span class="of">${picked.name}</span>
            <button class="quiet" onClick=${() => choose(null)}>all nodes</button>`}</h2>
          <${Charts} history=${s.history} ...${common} />
        </section>
        <section aria-labelledby="h-nodes">
          <h2 id="h-nodes">Nodes</h2>
          <${Nodes} history=${s.history} ...${common} />
        </section>
        <section aria-labelledby="h-models">
          <h2 id="h-models">Models</h2>
          <${Matrix} ...${common} />
        </section>
        ${s.requests && html`<section aria-labelledby="h-requests">
          <h2 id="h-requests">Requests <span class="of">through this node</span></h2>
          <${Requests} requests=${s.requests} members=${members} chosen=${picked} />
        </section>`}
      </main>
      <footer>kage-mesh ${p.version} · clients use <code>${p.endpoint}</code></footer>
    </div>`;
}

// Head says the state of the mesh in one sentence.
function Head({ picture, members, live, heard, now }) {
  const dead = members.filter((m) => stateOf(m).kind === "dead");
  const silent = members.filter((m) => stateOf(m).kind === "silent");
  const up = members.length - dead.length;
  const running = sum(members, "in_flight");
  const waiting = sum(members, "waiting");
  let kind = "up";
  let sentence = up === 1 ? "One node is up." : `All ${up} nodes are up.`;
  if (silent.length) {
    kind = "silent";
    sentence = `${names(silent)} ${silent.length === 1 ? "is" : "are"} silent.`;
  }
  if (dead.length) {
    kind = "dead";
    sentence = `${up} of ${members.length} nodes ${up === 1 ? "is" : "are"} up. ${names(dead)} failed` +
      (dead.length === 1 ? ` ${ago(dead[0].since, now)} ago.` : ".");
  }
  if (picture.health === "DOWN") {
    kind = "dead";
    sentence = dead.length ? sentence : `No node has an Ollama that answers.`;
  }
  return html`<header>
    <div class="name"><img src="/mesh/assets/icon.svg" alt="" width="22" height="22" />
      <b>kage-mesh</b> <span class="cluster" title="cluster">${picture.cluster}</span>
      <span class=${"live " + (live ? "on" : "off")} role="status">${live
        ? "live"
        : heard ? `no news for ${span((now - heard) / 1000)}, trying again` : "connecting"}</span>
    </div>
    <h1 class=${kind}><${Mark} kind=${kind} /> <span>${sentence}</span></h1>
    <p class="facts">
      <span><b>${running}</b> running</span> <span><b>${waiting}</b> waiting</span>
      <span><b>${picture.models.length}</b> ${picture.models.length === 1 ? "model" : "models"}</span>
      <span>${large(members)}</span>
      <span>seen from <b>${picture.self}</b></span>
    </p>
  </header>`;
}

// large says whether a 72B model, the largest that homes run, has a place.
function large(members) {
  const able = members.filter((m) => m["72b_capable"]);
  const ready = able.filter((m) => m.serving).length;
  if (!able.length) return "no node for 72B models";
  return ready === able.length ? `72B on ${count(ready, "node")}` : `72B on ${ready} of ${count(able.length, "node")}`;
}

const sum = (list, key) => list.reduce((total, m) => total + m[key], 0);

function names(list) {
  const all = list.map((m) => m.name);
  if (all.length > 3) return `${all.slice(0, 2).join(", ")} and ${all.length - 2} more`;
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all.at(-1)}` : all[0];
}

const root = document.getElementById("page");
root.textContent = "";
render(html`<${Page} />`, root);
