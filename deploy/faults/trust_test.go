//go:build linux

package faults

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// key writes a mesh key into a file.
func (s *scene) key(k mesh.Key) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte(k.String()+"\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func TestCase27WrongKeyAndRotation(t *testing.T) {
	s := begin(t, 27, "a node knocks with a wrong key for 8 s; then the key is rotated under load",
		"it stays out, with a clear line on both sides and hardly any CPU; the rotation costs 0 requests, and the wrong key is still wrong")
	s.up(4)
	right := s.key(mesh.NewKey())
	for _, h := range s.hosts[2:4] {
		h.ollama(configOf("m", 500, 4))
	}
	for _, h := range s.hosts[1:4] {
		h.join("--key-file", right)
	}
	members := s.hosts[1:4]
	s.eventually(60*time.Second, "three members", func() bool {
		for _, h := range members {
			if h.alive() != 3 || !h.knows("m", 2) {
				return false
			}
		}
		return true
	})
	s.clock()
	stranger := s.hosts[4]
	stranger.join("--key-file", s.key(mesh.NewKey()))
	spent := members[0].CPU()
	s.eventually(15*time.Second, "told of its wrong key", func() bool {
		return strings.Contains(stranger.stderr(), "another mesh of this name has another key")
	})
	s.throughout(8*time.Second, "three members, and it alone", func() bool { return members[0].alive() == 3 && stranger.alive() <= 1 })
	used := members[0].CPU() - spent
	lines := 0
	for _, h := range members {
		lines += strings.Count(h.stderr(), "a node that cannot join knocked")
	}
	if used > 2*time.Second || lines < 1 || lines > 3 {
		t.Errorf("a member used %v of CPU and all logged %d lines", used, lines)
	}
	s.saw("out; %d lines at the members, %.1f s of CPU of one in 8 s", lines, used.Seconds())

	stop, done := make(chan struct{}), make(chan [2]int)
	go func() {
		var n [2]int
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			n[0]++
			if r := s.ask(question{to: members[0], model: "m", tokens: 8}); r.perfect(8) != nil {
				n[1]++
				t.Errorf("during the rotation: %v", r)
			}
		}
	}()
	out, err := members[1].cli("keys", "rotate")
	close(stop)
	n := <-done
	if err != nil || out == "" {
		t.Errorf("rotation: %v", err)
	}
	if stranger.alive() > 1 || members[0].alive() != 3 {
		t.Errorf("after the rotation: %d and %d members", stranger.alive(), members[0].alive())
	}
	s.saw("rotation: %d requests, %d failed", n[0], n[1])
}

func TestCase28AnotherNodeAtAMembersAddress(t *testing.T) {
	s := begin(t, 28, "an owner dies, and at once a server with another key answers at its peer port",
		"called, and refused by TLS before a byte of a request: requests go to others, also the one that named the dead node ends in an error")
	ingress, owners := s.mesh(2, 500, "m")
	victim := owners[0]
	id := ingress.members()[victim.Name].ID
	thief, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	victim.Proc.Kill()
	l, err := victim.Listen("tcp", victim.IP().String()+":11436")
	if err != nil {
		t.Fatal(err)
	}
	var called, reached atomic.Int32
	server := &http.Server{
		Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }),
		TLSConfig: thief.ServerTLS(func(identity.NodeID) bool { return true }),
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				called.Add(1)
			}
		},
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	r := s.ask(question{to: ingress, model: "m", tokens: 8, header: map[string]string{"X-Kage-Node": victim.Name}})
	if r.status < 400 || r.failure == "" {
		t.Errorf("asked of the dead node alone: %v", r)
	}
	asked := 0
	for start := time.Now(); time.Since(start) < 4*time.Second; asked++ {
		if r := s.ask(question{to: ingress, model: "m", tokens: 8}); r.perfect(8) != nil || r.node != owners[1].Name {
			t.Fatalf("%v", r)
		}
	}
	if called.Load() == 0 || reached.Load() > 0 {
		t.Errorf("called %d times, %d requests reached it", called.Load(), reached.Load())
	}
	if m := ingress.members()[victim.Name]; m.ID != id {
		t.Errorf("the dead member is %+v", m)
	}
	s.saw("called %d times, 0 requests reached it; named alone: %q; %d of %d others whole", called.Load(), r.failure, asked, asked)
}

func TestCase29SameName(t *testing.T) {
	s := begin(t, 29, "a second node takes a name that is in use; then two that only share a hostname",
		"the chosen name is refused with exit 1, naming the address; shared hostnames are told apart")
	s.up(4)
	for _, h := range s.hosts[1:3] {
		h.join()
	}
	s.eventually(60*time.Second, "two members", func() bool { return s.hosts[1].alive() == 2 && s.hosts[2].alive() == 2 })
	s.clock()
	twin := s.hosts[3]
	twin.Name = s.hosts[2].Name
	twin.join()
	code := twin.code()
	if code != 1 || !strings.Contains(twin.stderr(), s.hosts[2].IP().String()) || !strings.Contains(twin.stderr(), "fix: ") {
		t.Errorf("exit code %d:\n%s", code, twin.stderr())
	}
	s.saw("exit %d: %s", code, lastLine(twin.stderr(), "error: "))
	for _, h := range s.hosts[3:] {
		h.Name = ""
		h.join()
	}
	s.eventually(15*time.Second, "four members of four names", func() bool { return len(s.hosts[1].members()) == 4 && s.hosts[1].alive() == 4 })
	var names []string
	for name := range s.hosts[1].members() {
		if !strings.HasPrefix(name, "node-") {
			names = append(names, name)
		}
	}
	s.saw("one hostname: %d members with names of their own", len(names))
}

// lastLine is the last line that begins like that, without it.
func lastLine(text, begin string) (last string) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), begin); ok {
			last = rest
		}
	}
	return last
}

func TestCase30CopiedStateDirectory(t *testing.T) {
	s := begin(t, 30, "a node's state directory is copied to another host and started there too",
		"the later of the two ends and says why; the first stays a member and serves")
	ingress, owners := s.mesh(2, 500, "m")
	original := owners[0]
	copied := newHost(s, s.lab.Node(0))
	copied.State = filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(copied.State, os.DirFS(original.State)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{identity.KeyFile, mesh.KeyFile} {
		_ = os.Chmod(filepath.Join(copied.State, file), 0o600)
	}
	copied.join()
	s.eventually(15*time.Second, "it ended, or told", func() bool {
		return strings.Contains(copied.stderr(), "another node runs with this node's key")
	})
	s.throughout(4*time.Second, "three members", func() bool { return ingress.alive() == 3 && ingress.sees(original) == "alive" })
	// The later process's word is believed for a few seconds after its end.
	took := s.eventually(10*time.Second, "the first in work", func() bool {
		r := s.ask(question{to: ingress, model: "m", tokens: 8, header: map[string]string{"X-Kage-Node": original.Name}})
		return r.perfect(8) == nil && r.node == original.Name
	})
	s.saw("told: %q; the first serves on, %.1f s later", "another node runs with this node's key", took.Seconds())
}

func TestCase31MalformedGossip(t *testing.T) {
	s := begin(t, 31, "a guest sends 20,000 datagrams and 300 streams of noise, claims of 2 GiB among them, to the gossip and peer ports",
		"no crash, no new member, memory bounded (under 64 MiB more), requests whole meanwhile")
	ingress, owners := s.mesh(2, 500, "m")
	guest, target := s.lab.Node(0), owners[0]
	before := target.rss()
	failed := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if err := s.ask(question{to: ingress, model: "m", tokens: 8}).perfect(8); err != nil {
				failed <- err
				return
			}
		}
	}()
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(s.rand.Uint32())
		}
		return b
	}
	addr := func(port int) string { return net.JoinHostPort(target.IP().String(), fmt.Sprint(port)) }
	out, err := guest.DialContext(s.ctx, "udp", addr(11437))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		b := noise(1 + s.rand.IntN(1400))
		if i%2 == 0 { // begin like memberlist's message types
			b[0] = byte(s.rand.IntN(20))
		}
		_, _ = out.Write(b)
	}
	out.Close()
	for i := range 300 {
		conn, err := guest.DialContext(s.ctx, "tcp", addr(11436+i%2))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		b := noise(2000)
		if i%3 == 0 { // type, then a length of 2 GiB
			copy(b, []byte{byte(s.rand.IntN(20)), 0x7f, 0xff, 0xff, 0xff})
		}
		_, _ = conn.Write(b)
		conn.Close()
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	after := target.rss()
	if after > before+64 {
		t.Errorf("memory %d MiB, before %d", after, before)
	}
	if n := len(ingress.members()); n != 3 || ingress.alive() != 3 {
		t.Errorf("%d members, %d alive", n, ingress.alive())
	}
	s.saw("3 members, %d MiB before and %d MiB after, every request whole", before, after)
}

func TestCase32NewerVersionInTheMesh(t *testing.T) {
	s := begin(t, 32, "one owner runs a later version: more tags, longer load reports, a field more in its card",
		"both sides ignore what they do not know: each is asked by the other and serves")
	next := s.variant("next", map[string][2]string{
		"mesh/tags.go":  {"\ttext(tagCard, i.Card, maxWord)\n", "\ttext(tagCard, i.Card, maxWord)\n\ttags[\"zz\"] = \"later\"\n"},
		"mesh/codec.go": {"return binary.AppendUvarint(b, count(l.Trouble)), nil", "return append(binary.AppendUvarint(b, count(l.Trouble)), 1, 2, 3), nil"},
	}, "-ldflags", "-X main.version=v99.0.0")
	s.up(3)
	for _, h := range s.hosts[1:] {
		h.ollama(configOf("m", 500, 4))
		h.ollamaOnly(fmt.Sprintf("only-%d", h.Index()))
	}
	s.hosts[3].Binary = next
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.eventually(60*time.Second, "three members", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != 3 || !h.knows("m", 3) || !h.knows("only-3", 1) || !h.knows("only-1", 1) {
				return false
			}
		}
		return true
	})
	s.clock()
	for _, c := range [][2]int{{1, 3}, {3, 1}, {2, 3}, {3, 2}} {
		r := s.ask(question{to: s.hosts[c[0]], model: fmt.Sprintf("only-%d", c[1]), tokens: 8})
		if err := r.perfect(8); err != nil || r.node != s.hosts[c[1]].Name {
			t.Errorf("%d asks %d: %v: %v", c[0], c[1], err, r)
		}
	}
	s.throughout(3*time.Second, "all alive", func() bool { return s.hosts[1].alive() == 3 && s.hosts[3].alive() == 3 })
	s.saw("old asks new and new asks old: whole")
}

// ollamaOnly puts one more model on the host's fake.
func (h *host) ollamaOnly(name string) {
	h.s.Helper()
	if err := h.fake.Install(ollamatest.Model{Name: name, Size: 1 << 20, Decode: 500}); err != nil {
		h.s.Fatal(err)
	}
}
