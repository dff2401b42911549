package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// Spec describes one node: its name, the hardware that it claims, and its
// Ollama. A Spec without Ollama is a router-only node.
type Spec struct {
	Name     string
	Hardware hardware.Inventory
	Ollama   *ollamatest.Config
	API      string // client address; default a free port of 127.0.0.1
	// Host is the address of an Ollama that is not the fleet's, instead of
	// Ollama. The fleet neither starts nor stops it.
	Host string
}

// Options of a Fleet.
type Options struct {
	Version string
	Key     mesh.Key      // of the mesh; zero: open
	Grace   time.Duration // see node.Config.Grace
	Policy  router.Policy // of every node; nil: router.Select
	Logger  *slog.Logger
	// Tracer is of the node with that name; nil: nobody follows requests.
	Tracer func(name string) router.Tracer
}

// Fleet is a running set of nodes.
type Fleet struct {
	nodes []*Node
	dir   string
}

// Start starts a node per spec and joins them; it returns when every node
// sees all others with their models. On error nothing is left running.
func Start(ctx context.Context, specs []Spec, o Options) (*Fleet, error) {
	dir, err := os.MkdirTemp("", "kage-mesh-fleet-")
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{dir: dir}
	for i, spec := range specs {
		n := &Node{Spec: spec, options: o, fleet: f, dir: filepath.Join(dir, fmt.Sprintf("%d-%s", i, spec.Name))}
		if err := n.start(); err != nil {
			f.Close()
			return nil, fmt.Errorf("fleet: node %s: %w", spec.Name, err)
		}
		f.nodes = append(f.nodes, n)
		if i > 0 {
			if err := n.join(ctx); err != nil {
				f.Close()
				return nil, fmt.Errorf("fleet: node %s: %w", spec.Name, err)
			}
		}
	}
	if err := f.Settle(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Nodes lists the nodes in the order of their specs.
func (f *Fleet) Nodes() []*Node { return f.nodes }

// Node is the i-th node.
func (f *Fleet) Node(i int) *Node { return f.nodes[i] }

// Settle waits until every running node sees all running nodes alive, with
// their catalogs and a load report.
func (f *Fleet) Settle(ctx context.Context) error {
	for _, n := range f.nodes {
		if !n.Running() {
			continue
		}
		_, err := n.Mesh().Wait(ctx, func(v *mesh.View) bool { return len(f.lacks(v)) == 0 })
		if err != nil {
			return fmt.Errorf("fleet: %s does not see all others: %w: %s", n.Spec.Name, err, strings.Join(f.lacks(n.Mesh().View()), ", "))
		}
	}
	return nil
}

// lacks says, node by node, what is missing in a view of those that run.
func (f *Fleet) lacks(v *mesh.View) (lacks []string) {
	for _, n := range f.nodes {
		if !n.Running() {
			continue
		}
		m, ok := v.Member(n.ID())
		lack := ""
		switch {
		case !ok:
			lack = "unknown"
		case m.Status != mesh.Alive:
			lack = string(m.Status)
		case m.Card == nil:
			lack = "no card"
		case m.Load == nil:
			lack = "no load"
		case n.Ollama == nil && n.Spec.Host == "":
		case !m.Load.Up:
			lack = "no Ollama"
		case n.Spec.Ollama != nil && len(m.Card.Catalog) < len(n.Spec.Ollama.Models):
			lack = fmt.Sprintf("%d of %d models", len(m.Card.Catalog), len(n.Spec.Ollama.Models))
		}
		if lack != "" {
			lacks = append(lacks, n.Spec.Name+": "+lack)
		}
	}
	return lacks
}

// Close stops everything at once and removes the fleet's files.
func (f *Fleet) Close() {
	var wait sync.WaitGroup
	for _, n := range f.nodes {
		wait.Go(n.Kill)
	}
	wait.Wait()
	_ = os.RemoveAll(f.dir)
}

// Node is one node of a Fleet with its Ollama.
type Node struct {
	*node.Node
	Spec   Spec
	Ollama *ollamatest.Server // nil for a router-only node

	options Options
	fleet   *Fleet
	dir     string
	api     string // kept over restarts, so that clients find it again
	done    chan struct{}
	err     error
}

func (n *Node) start() error {
	ollama := "127.0.0.1:1" // nothing listens there: a node without Ollama
	if n.Spec.Host != "" {
		ollama = n.Spec.Host
	}
	if n.Spec.Ollama != nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		n.Ollama = ollamatest.New(*n.Spec.Ollama)
		go func() { _ = n.Ollama.Serve(l) }() // ends with Kill or Close
		ollama = l.Addr().String()
	}
	if n.api == "" {
		n.api = n.Spec.API
	}
	var tracer router.Tracer
	if n.options.Tracer != nil {
		tracer = n.options.Tracer(n.Spec.Name)
	}
	made, err := node.New(node.Config{
		Tracer: tracer,
		Name:   n.Spec.Name, Cluster: "fleet", StateDir: n.dir,
		API: orLoopback(n.api), Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0",
		Ollama: ollama, Parallel: n.parallel(),
		Detect:    func(context.Context) hardware.Inventory { return n.Spec.Hardware },
		Detection: calm(),
		Key:       n.options.Key, Grace: n.options.Grace, Policy: n.options.Policy, Version: n.options.Version, Logger: n.options.Logger.With("node", n.Spec.Name),
	})
	if err != nil {
		n.stopOllama()
		return err
	}
	n.Node, n.api, n.done = made, made.APIAddr().String(), make(chan struct{})
	go func() {
		defer close(n.done)
		n.err = made.Run(context.Background())
	}()
	return nil
}

// calm is the failure detection of nodes that share one process: slower by a
// factor of three, since a turn of the processor is as rare as they are many.
// With the default, ten idle nodes under the race detector, on two cores that
// others kept busy, gave each other up five times a second.
func calm() mesh.Profile {
	p := mesh.DefaultProfile()
	p.ProbeInterval, p.ProbeTimeout = time.Second, 500*time.Millisecond
	p.GossipInterval = 200 * time.Millisecond
	p.SuspicionMult, p.SuspicionMaxTimeoutMult = 4, 3
	p.AwarenessMaxMultiplier = 8
	return p
}

func (n *Node) parallel() int {
	if n.Spec.Ollama == nil {
		return 0
	}
	return n.Spec.Ollama.Parallel
}

func orLoopback(addr string) string {
	if addr == "" {
		return "127.0.0.1:0"
	}
	return addr
}

// join joins the node to the running others.
func (n *Node) join(ctx context.Context) error {
	var addrs []string
	for _, other := range n.fleet.nodes {
		if other != n && other.Running() {
			addrs = append(addrs, other.Mesh().Addr().String())
		}
	}
	if len(addrs) == 0 {
		return errors.New("fleet: nobody to join")
	}
	if joined, err := n.Mesh().Join(ctx, addrs...); joined == 0 {
		return err
	}
	return nil // one is enough: the others come by gossip
}

// Running reports whether the node runs now.
func (n *Node) Running() bool {
	if n.Node == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Kill stops the node and its Ollama at once, without goodbye, and returns
// when both are gone.
func (n *Node) Kill() {
	if n.Node == nil {
		return
	}
	n.stopOllama()
	n.Node.Kill()
	<-n.done
}

// Stop stops the node in order, and then its Ollama.
func (n *Node) Stop() error {
	n.Node.Leave()
	<-n.done
	n.stopOllama()
	return n.err
}

func (n *Node) stopOllama() {
	if n.Ollama != nil {
		n.Ollama.Kill()
	}
}

// Restart starts a stopped node again: same identity, same client port, empty
// Ollama memory; it joins those that run.
func (n *Node) Restart(ctx context.Context) error {
	if n.Running() {
		return errors.New("fleet: the node runs")
	}
	if err := n.start(); err != nil {
		return err
	}
	return n.join(ctx)
}
