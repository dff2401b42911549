package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) demoCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "demo",
		Usage: "show a mesh of four nodes on this machine, without Ollama or a GPU",
		Description: "Runs four real nodes in one process (two CPU servers, an RTX 4090, an AMD box\n" +
			"with 64 GB of unified memory), each with a fake Ollama that keeps the speeds\n" +
			"measured on such machines. Sends requests through all of them, kills the node\n" +
			"that works hardest, and says what the clients saw.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Value: 4, Usage: "how many nodes; other than 4 there is no play, they just stay up"},
			&cli.BoolFlag{Name: "keep", Usage: "stay up afterwards, to play with, until stopped"},
			&cli.Float64Flag{Name: "speed", Value: 20, Usage: "times as fast as the real machines"},
			&cli.IntFlag{Name: "requests", Value: 60, Usage: "how many requests the second act sends"},
			&cli.BoolFlag{Name: "verbose", Usage: "show the nodes' own log"},
		},
		Action: e.demo,
	})
}

func (e environment) demo(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	nodes := c.Int("nodes")
	if c.Float64("speed") <= 0 || c.Int("requests") <= 0 || nodes < 1 || nodes > 50 {
		return usage("give numbers above 0, and at most 50 nodes", "bad --speed, --requests or --nodes")
	}
	logger := slog.New(slog.DiscardHandler)
	if c.Bool("verbose") {
		logger = slog.New(slog.NewTextHandler(e.stderr, nil))
	}
	specs := fleet.Household(nodes, c.Float64("speed"))
	specs[0].API = freeAddress("127.0.0.1:11435")
	start := time.Now()
	f, err := fleet.Start(c.Context, specs, fleet.Options{Version: build().Version, Logger: logger})
	if err != nil {
		return err
	}
	defer f.Close()
	d := &demonstration{environment: e, fleet: f, requests: c.Int("requests")}
	d.say("%d nodes found each other in %.1f s:", len(f.Nodes()), time.Since(start).Seconds())
	d.show()
	if nodes == 4 {
		if err := d.play(c.Context); err != nil {
			return err
		}
		if !c.Bool("keep") {
			return nil
		}
	}
	d.say("\nThe mesh stays up until you press Ctrl-C. Try, in another terminal:")
	api := strings.TrimPrefix(f.Node(0).Endpoint(), "http://")
	d.say("  kage-mesh members --api %s", api)
	d.say("  curl http://%s/api/generate -d '{\"model\":\"qwen2.5:72b\",\"prompt\":\"hi\"}'", api)
	<-c.Context.Done()
	return nil
}

// freeAddress is addr when it can be bound, else any free port of its host.
func freeAddress(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close()
	return addr
}

// demonstration is the play and its audience.
type demonstration struct {
	environment
	fleet    *fleet.Fleet
	requests int
}

func (d *demonstration) say(format string, args ...any) { fmt.Fprintf(d.stdout, format+"\n", args...) }

func (d *demonstration) show() {
	for _, n := range d.fleet.Nodes() {
		d.say("  %-12s %-55s %s", n.Spec.Name, n.Spec.Hardware.Summary(), n.Endpoint())
	}
}

func (d *demonstration) play(ctx context.Context) error {
	if err := d.anyNode(ctx); err != nil {
		return err
	}
	if err := d.killOne(ctx); err != nil {
		return err
	}
	return d.comeBack(ctx)
}

// anyNode asks each node for the largest model, which only two of them hold.
func (d *demonstration) anyNode(ctx context.Context) error {
	d.say("\nAny node answers for the whole mesh. Asking each for qwen2.5:72b:")
	for _, n := range d.fleet.Nodes() {
		a := fleet.Ask(ctx, n.Endpoint(), "qwen2.5:72b", "why is the sky blue", 24, false)
		if a.Err != nil {
			return fmt.Errorf("demo: %s: %w", n.Spec.Name, a.Err)
		}
		d.say("  asked %-12s answered by %-12s %d tokens in %.1f s", n.Spec.Name, a.Node, a.Tokens, a.Took.Seconds())
	}
	return nil
}

// killOne sends requests through every node and kills the one that answers
// most of them halfway.
func (d *demonstration) killOne(ctx context.Context) error {
	models := []string{"qwen2.5:3b", "qwen2.5:32b", "qwen2.5:3b"}
	d.say("\nSending %d requests through the four nodes, 12 at a time; one node will be killed on the way.", d.requests)
	victim := d.fleet.Node(2)
	entries := []*fleet.Node{d.fleet.Node(0), d.fleet.Node(1), d.fleet.Node(3)}
	var (
		mu      sync.Mutex
		answers []fleet.Answer
		wait    sync.WaitGroup
		places  = make(chan struct{}, 12)
	)
	start := time.Now()
	for i := range d.requests {
		places <- struct{}{}
		if i == d.requests/2 {
			running := victim.Ollama.Stats().Running
			victim.Kill()
			d.say("  %.1f s: killed %s with %s running on it", time.Since(start).Seconds(), victim.Spec.Name, plural(running, "request"))
		}
		wait.Go(func() {
			defer func() { <-places }()
			a := fleet.Ask(ctx, entries[i%len(entries)].Endpoint(), models[i%len(models)], fmt.Sprintf("question %d", i), 40, true)
			mu.Lock()
			answers = append(answers, a)
			mu.Unlock()
		})
	}
	wait.Wait()
	return d.reckon(answers, time.Since(start))
}

func (d *demonstration) reckon(answers []fleet.Answer, took time.Duration) error {
	byNode := map[string]int{}
	failed, moved := 0, 0
	var first error
	for _, a := range answers {
		if a.Err != nil {
			failed++
			first = a.Err
			continue
		}
		byNode[a.Node]++
		if a.Attempts > 1 {
			moved++
		}
	}
	d.say("  %.1f s: %d of %d answers whole and in order, %d failed", took.Seconds(), len(answers)-failed, len(answers), failed)
	d.say("  %s took more than one try (a full queue, or the death); streams that were cut went on elsewhere", plural(moved, "request"))
	for _, n := range d.fleet.Nodes() {
		d.say("    %-12s answered %d", n.Spec.Name, byNode[n.Spec.Name])
	}
	if failed > 0 {
		return fmt.Errorf("demo: %d requests failed, the first with: %w", failed, first)
	}
	return nil
}

// allIdle reports whether no member that is alive has work.
func allIdle(v *mesh.View) bool {
	for _, m := range v.Members() {
		if m.Status == mesh.Alive && m.Load != nil && m.Load.Running+m.Load.Waiting > 0 {
			return false
		}
	}
	return true
}

// comeBack starts the dead node again and sees it serve.
func (d *demonstration) comeBack(ctx context.Context) error {
	victim, entry := d.fleet.Node(2), d.fleet.Node(0)
	v, err := entry.Mesh().Wait(ctx, func(v *mesh.View) bool {
		m, ok := v.Member(victim.ID())
		return ok && m.Status == mesh.Failed && allIdle(v)
	})
	if err != nil {
		return err
	}
	d.say("\nWhat the others say of it now (kage-mesh status):")
	if err := d.printStatus(admin.StatusOf(v, "demo", entry.Endpoint(), time.Now())); err != nil {
		return err
	}
	start := time.Now()
	if err := victim.Restart(ctx); err != nil {
		return err
	}
	if err := d.fleet.Settle(ctx); err != nil {
		return err
	}
	d.say("\n%s came back by itself and was seen by all in %.1f s.", victim.Spec.Name, time.Since(start).Seconds())
	a := fleet.Ask(ctx, entry.Endpoint(), "qwen2.5:32b", "welcome back", 24, false)
	if a.Err != nil {
		return a.Err
	}
	d.say("  qwen2.5:32b asked of %s: answered by %s", entry.Spec.Name, a.Node)
	return nil
}
