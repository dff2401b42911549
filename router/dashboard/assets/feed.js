// Where the page gets what it shows: pictures of the mesh and requests as they
// come, and the last hour.

const silentAfter = 12_000; // two beats of the node missed
const recent = 256; // ended requests that are kept, as many as the node does

// follow calls tell(changes) with what is new: {picture}, {live, heard},
// {history} or {requests}.
export function follow(tell) {
  let source;
  let heard = 0;
  let live;
  const hear = () => {
    heard = Date.now();
    mind();
  };
  const mind = (broken) => {
    const now = !broken && Date.now() - heard < silentAfter;
    if (now !== live) tell({ live: (live = now) });
    tell({ heard });
  };
  const open = () => {
    source = new EventSource("/mesh/v1/events");
    let ended = [];
    source.onopen = () => (ended = []); // a stream begins with all that the node remembers
    source.addEventListener("picture", (e) => {
      tell({ picture: JSON.parse(e.data) });
      hear();
    });
    source.addEventListener("requests", (e) => {
      const doc = JSON.parse(e.data);
      ended = [...doc.ended, ...ended].slice(0, recent);
      tell({ requests: [...doc.running, ...ended] });
      hear();
    });
    source.addEventListener("beat", hear);
    source.onerror = () => {
      mind(true);
      // The browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 5000);
    };
  };
  open();
  setInterval(() => mind(source.readyState !== EventSource.OPEN), 1000);
  history(tell);
}

// history asks for the points since the last one, every ten seconds.
function history(tell) {
  let all;
  const keep = 360;
  const extend = (old, add, n, before) => [...(old || Array(before).fill(0)), ...(add || Array(n).fill(0))].slice(-keep);
  const ask = async () => {
    try {
      const last = all?.times.at(-1) ?? 0;
      const answer = await fetch(`/mesh/v1/history?since=${last}`);
      if (answer.ok) {
        const doc = await answer.json();
        const n = doc.times.length;
        if (!all) {
          all = doc;
        } else if (n > 0) {
          const before = all.times.length;
          const nodes = {};
          for (const id of new Set([...Object.keys(all.nodes), ...Object.keys(doc.nodes)])) {
            const [a, b] = [all.nodes[id], doc.nodes[id]];
            nodes[id] = { name: (b || a).name };
            for (const key of ["up", "in_flight", "waiting", "tokens_per_second", "vram", "ram"]) {
              nodes[id][key] = extend(a?.[key], b?.[key], n, before);
            }
          }
          all = { ...all, times: [...all.times, ...doc.times].slice(-keep), nodes };
        }
        tell({ history: all });
      }
    } catch {
      // The node is away; the stream of events says so.
    }
    setTimeout(ask, 10_000);
  };
  ask();
}
