// Where the page gets what it shows: pictures of the mesh as they come, the
// last hour, and recent requests where the node tells them.

const silentAfter = 12_000; // two beats of the node missed

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
    source.addEventListener("picture", (e) => {
      tell({ picture: JSON.parse(e.data) });
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
  requests(tell);
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
            for (const key of ["up", "in_flight", "waiting", "vram", "ram"]) {
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

// requests asks for the ring of recent requests; a node without that route is
// asked again a minute later.
function requests(tell) {
  const ask = async () => {
    let again = 2000;
    try {
      const answer = await fetch("/mesh/v1/requests");
      if (answer.ok) {
        const doc = await answer.json();
        tell({ requests: [...doc.running, ...doc.ended] });
      } else {
        again = 60_000;
      }
    } catch {
      again = 5000;
    }
    setTimeout(ask, document.hidden ? Math.max(again, 10_000) : again);
  };
  ask();
}
