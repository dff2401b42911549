//go:build linux

package e2e

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// fleet is an ingress without Ollama and owners with the same models, so that
// one can be dead or coming back while the others serve.
type fleet struct {
	t       *testing.T
	lab     *lab.Lab
	ingress *host
	owners  []*owner
	models  []string
	reviver sync.WaitGroup
}

type owner struct {
	*host
	fleet    *fleet
	ollama   *realollama.Ollama
	holder   *holder
	down     atomic.Bool
	starting sync.Mutex // of its process, which the one that kills it next must see
}

// behind is where an owner's Ollama listens; its usual port is the holder's.
const behind = "127.0.0.1:11533"

func newFleet(t *testing.T, owners int, models ...string) *fleet {
	t.Helper()
	need.NotShort(t, "hosts with real Ollamas")
	f := &fleet{t: t, lab: lab.Up(t, owners+1), models: models}
	t.Cleanup(f.reviver.Wait)
	for i := 1; i <= owners; i++ {
		n := f.lab.Node(i)
		o := &owner{host: newHost(t, n), fleet: f}
		o.ollama = realollama.Start(t, realollama.Options{On: n, Address: behind, Models: models})
		o.holder = hold(t, n, behind)
		f.owners = append(f.owners, o)
	}
	f.ingress = newHost(t, f.lab.Node(owners+1))
	f.ingress.join()
	for _, o := range f.owners {
		o.join()
	}
	var wait sync.WaitGroup
	for _, o := range f.owners {
		wait.Go(o.warm)
	}
	wait.Wait()
	f.serving(owners)
	return f
}

// warm has every model in the owner's memory.
func (o *owner) warm() {
	for _, m := range o.fleet.models {
		r := askURL(o.t.Context(), o.HTTPClient(), o.ollama.URL+"/api/generate", map[string]any{
			"model": m, "prompt": "warm", "keep_alive": -1, "options": map[string]any{"num_predict": 1},
		})
		if r.err != nil {
			o.t.Errorf("%s: %v", o, r.err)
		}
	}
}

// serving waits until the ingress knows so many owners that live, are not only
// remembered, and have their models.
func (f *fleet) serving(want int) {
	f.t.Helper()
	ask := admin.Client{Base: "http://127.0.0.1:11435", HTTP: f.ingress.HTTPClient()}
	await(f.t, 60*time.Second, "enough owners with their models", func() bool {
		m, err := ask.Members(f.t.Context())
		if err != nil {
			return false
		}
		n := 0
		for _, member := range m.Members {
			if member.Status != "alive" || member.Ollama == "" || len(member.Models) != len(f.models) {
				continue
			}
			if !f.named(member.Name).down.Load() { // else its death is not noticed yet
				n++
			}
		}
		return n >= want
	})
}

// named is the owner with that name.
func (f *fleet) named(name string) *owner {
	for _, o := range f.owners {
		if o.String() == name {
			return o
		}
	}
	f.t.Fatalf("nobody is called %q", name)
	return nil
}

// hold has whoever serves next stop after k pieces of text.
func (f *fleet) hold(k int) {
	for _, o := range f.owners {
		o.holder.arm(k)
	}
}

// let lets all answers pass: those that others take up, above all.
func (f *fleet) let() {
	for _, o := range f.owners {
		o.holder.let()
	}
}

// kill ends a node and its Ollama at once, as a crash of the machine's user
// space would, and lets all others write on.
func (o *owner) kill() {
	for _, other := range o.fleet.owners {
		if other != o {
			other.holder.let()
		}
	}
	o.down.Store(true)
	o.starting.Lock()
	o.Proc.Kill()
	o.starting.Unlock()
	o.ollama.Kill()
	o.holder.let()
}

// revive starts both again.
func (o *owner) revive() {
	o.ollama.Restart()
	o.warm()
	o.down.Store(false) // before it can be killed again
	o.starting.Lock()
	defer o.starting.Unlock()
	o.host.join()
}

// replace has dead come back beside what the test does next, and returns when
// two others serve; with nil, when all do.
func (f *fleet) replace(dead *owner) {
	f.t.Helper()
	if dead == nil {
		f.reviver.Wait()
		f.serving(len(f.owners))
		return
	}
	f.reviver.Go(dead.revive)
	f.serving(2)
}
