package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// findFor is how long the first-run report waits for other nodes: mDNS answers
// well within a second on a network that works.
const findFor = 2 * time.Second

// report prints what the node found, a fact per line, once its own facts are
// there, and ends with a command to copy.
func (e environment) report(ctx context.Context, n *node.Node, c node.Config) error {
	wait, cancel := context.WithTimeout(ctx, findFor)
	defer cancel()
	v, err := n.Mesh().Wait(wait, func(v *mesh.View) bool { return v.Self() != nil && v.Self().Card != nil && others(v) > 0 })
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		v = n.Mesh().View()
	}
	p := e.paint(e.stdout)
	good, warn := p.green("✓"), p.yellow("!")
	line := func(mark, what, format string, args ...any) {
		fmt.Fprintf(e.stdout, "%s %-8s %s\n", mark, what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(e.stdout, "kage-mesh %s · node %s · %s/%s\n", build().Version, n.Name(), runtime.GOOS, runtime.GOARCH)
	self := v.Self()
	if self != nil && self.Card != nil && self.Info.Ollama != "" {
		line(good, "ollama", "%s at %s · %s, %d loaded", self.Info.Ollama, n.OllamaHost(), plural(len(self.Card.Catalog), "model"), loaded(self))
	} else {
		line(warn, "ollama", "none at %s yet · this node routes to the others; start it with 'ollama serve'", n.OllamaHost())
	}
	if self != nil && self.Card != nil {
		line(good, "gpu", "%s · 72B: %s", self.Card.Hardware.Summary(), yesNo(self.Info.Big))
	}
	if !n.Mesh().Keyed() {
		line(warn, "mesh", "%q · gossip %s · open: every machine on this network can join (kage-mesh keygen)", c.Cluster, n.Mesh().Addr())
	} else {
		line(good, "mesh", "%q · gossip %s, encrypted · peers pinned", c.Cluster, n.Mesh().Addr())
	}
	line(good, "api", "%s (Ollama, OpenAI)", n.Endpoint())
	found := others(v)
	if found > 0 {
		line(good, "peers", "%s found", plural(found, "node"))
	} else {
		line(warn, "peers", "none yet · still looking; name one with 'kage-mesh join ADDRESS'")
	}
	addr := n.APIAddr()
	if model := someModel(v); model != "" {
		fmt.Fprintf(e.stdout, "try: OLLAMA_HOST=127.0.0.1:%d ollama run %s\n", addr.Port(), model)
	} else {
		fmt.Fprintf(e.stdout, "try: kage-mesh members --api 127.0.0.1:%d\n", addr.Port())
	}
	return nil
}

func others(v *mesh.View) int {
	count := 0
	for _, m := range v.Members() {
		if !m.Self && m.Status == mesh.Alive {
			count++
		}
	}
	return count
}

func loaded(m *mesh.Member) int {
	count := 0
	if m.Load != nil {
		for i := range m.Load.Models {
			if m.Load.Models[i].Resident {
				count++
			}
		}
	}
	return count
}

// someModel is a model that the mesh has, the largest, for the command to copy;
// "" when it has none.
func someModel(v *mesh.View) string {
	name, size := "", uint64(0)
	for _, key := range v.Models() {
		for _, h := range v.Holders(key) {
			if h.Model.Size > size && h.Model.Remote == "" {
				name, size = h.Model.Name, h.Model.Size
			}
		}
	}
	return name
}
