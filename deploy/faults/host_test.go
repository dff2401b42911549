//go:build linux

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/machine"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// host is one machine with kage-mesh and perhaps an Ollama.
type host struct {
	*machine.Machine
	s *scene

	fake  *ollamatest.Server // nil: none
	slots int                // requests that its Ollama runs at once; 0 unsaid
}

func newHost(s *scene, n *lab.Node) *host {
	s.Helper()
	return &host{Machine: machine.New(s, n, binary), s: s}
}

// model is a cheap model that answers fast.
func model(name string, rate float64) ollamatest.Model {
	return ollamatest.Model{Name: name, Size: 1 << 20, Decode: rate, Layers: 1, KVHeads: 1, HeadDim: 16}
}

// ollama serves a fake on the host's loopback, where Ollama would be.
func (h *host) ollama(c ollamatest.Config) *ollamatest.Server {
	h.s.Helper()
	c.Name, c.Seed = h.Name, uint64(h.s.number)
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	h.slots, h.fake = c.Parallel, ollamatest.New(c)
	h.reviveOllama()
	h.s.Cleanup(h.fake.Kill)
	return h.fake
}

// reviveOllama starts the fake again after a Kill or Close.
func (h *host) reviveOllama() {
	h.s.Helper()
	l, err := h.Listen("tcp", "127.0.0.1:11434")
	if err != nil {
		h.s.Fatal(err)
	}
	h.fake.Start(l)
}

// join runs kage-mesh join in a mesh whose nodes know each other's addresses.
func (h *host) join(args ...string) {
	h.s.Helper()
	all := []string{"--no-mdns", "--parallel", strconv.Itoa(h.slots)}
	for _, other := range h.s.hosts[1:] {
		if other != h {
			all = append(all, "--seed", other.IP().String())
		}
	}
	h.Join(append(all, args...)...)
}

// cli runs a kage-mesh command on the host.
func (h *host) cli(args ...string) (stdout string, err error) {
	cmd := h.Kage(h.s.ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("kage-mesh %s: %w: %s", strings.Join(args, " "), err, errs.Bytes())
	}
	return out.String(), err
}

// kill ends the node and its fake Ollama at once, as a crash of the machine's
// user space would.
func (h *host) kill() {
	h.Proc.Kill()
	if h.fake != nil {
		h.fake.Kill()
	}
}

// members are the members as the host sees them, by name; empty while its node
// does not answer.
func (h *host) members() map[string]admin.Member {
	byName := map[string]admin.Member{}
	for _, member := range h.Members(h.s.ctx) {
		byName[member.Name] = member
	}
	return byName
}

// sees is the status of another member as the host sees it, "" if it knows
// none of that name.
func (h *host) sees(other *host) string { return h.members()[other.Name].Status }

// alive counts the members that the host sees alive.
func (h *host) alive() int { return h.Alive(h.s.ctx) }

// knows reports whether the host sees so many members that have a model and
// an Ollama that answers.
func (h *host) knows(model string, holders int) bool {
	n := 0
	for _, m := range h.members() {
		if m.Status == "alive" && m.Ollama != "" && slices.ContainsFunc(m.Models, func(have admin.Model) bool {
			return have.Name == model || have.Name == model+":latest"
		}) {
			n++
		}
	}
	return n == holders
}

// stderr is what the present process has logged.
func (h *host) stderr() string { return h.Proc.Stderr.String() }

// mesh builds hosts that know each other: the first is an ingress without
// Ollama, the others have the models given at a pace of rate tokens a second.
// It returns when all see all.
func (s *scene) mesh(owners int, rate float64, models ...string) (ingress *host, rest []*host) {
	s.Helper()
	s.up(owners + 1)
	for _, h := range s.hosts[2:] {
		var c ollamatest.Config
		for _, name := range models {
			c.Models = append(c.Models, model(name, rate))
		}
		h.ollama(c)
	}
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands(models...)
	return s.hosts[1], s.hosts[2:]
}

// stands waits until every host sees every other, and every model at all but
// the first host, and starts the case's clock.
func (s *scene) stands(models ...string) {
	s.Helper()
	s.eventually(60*time.Second, "a mesh that stands", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != len(s.hosts)-1 {
				return false
			}
			for _, m := range models {
				if !h.knows(m, len(s.hosts)-2) {
					return false
				}
			}
		}
		return true
	})
	s.clock()
}

// failures counts the attempts that failed as the host's node logged them, by
// their error and refusal.
func (h *host) failures() map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(h.stderr()) {
		var said struct{ Msg, Err, Phase, Refusal string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "attempt failed" {
			counts[strings.TrimSpace(said.Phase+": "+said.Err+" "+said.Refusal)]++
		}
	}
	return counts
}

// configOf is an Ollama with one model at a pace and so many slots.
func configOf(name string, rate float64, slots int) ollamatest.Config {
	return ollamatest.Config{Models: []ollamatest.Model{model(name, rate)}, Parallel: slots}
}
