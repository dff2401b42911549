package node

import (
	"context"
	"os"
	"slices"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// checkup is what the node can say of itself and of the paths to the others.
func (n *Node) checkup(ctx context.Context, greet []string, paths bool) admin.Checkup {
	c := admin.Checkup{
		PID: os.Getpid(),
		API: n.api.Addr().String(), Peer: n.peer.Addr().String(), Gossip: n.mesh.Bound().String(),
		Advertise: n.mesh.Addr().String(), Locked: n.guard.Locked(), Keyed: n.mesh.Keyed(),
		Ollama: n.ollama.String(), StateDir: n.config.StateDir, Models: slices.Clone(n.stores()),
		DescriptorLimit: descriptorLimit(),
	}
	if n.config.Checkup != nil {
		n.config.Checkup(&c)
	}
	var (
		mu sync.Mutex // guards c.Greeted
		wg sync.WaitGroup
	)
	if paths {
		wg.Go(func() { c.Peers = n.mesh.Reach(ctx) })
	}
	if len(greet) > 0 {
		c.Greeted = make(map[string]string, len(greet))
	}
	for _, addr := range greet {
		wg.Go(func() {
			said := ""
			if err := n.mesh.Greet(ctx, addr); err != nil {
				said = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			c.Greeted[addr] = said
		})
	}
	wg.Wait()
	return c
}
