//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/machine"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// patience bounds waits for what takes a few seconds; it is no promise.
const patience = 30 * time.Second

// fakeOllama serves a fake on the host's loopback, where Ollama would be.
func (h *host) fakeOllama(models ...ollamatest.Model) *ollamatest.Server {
	h.t.Helper()
	l, err := h.Listen("tcp", "127.0.0.1:11434")
	if err != nil {
		h.t.Fatal(err)
	}
	s := ollamatest.New(ollamatest.Config{Name: h.String(), Models: models, Parallel: 4})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	h.t.Cleanup(func() { s.Kill(); <-done })
	return s
}

// keyFile writes a mesh key for join.
func keyFile(t testing.TB, k mesh.Key) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte(k.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyedPair is two hosts in a keyed mesh, the second with an Ollama, and one or
// more that do not belong.
func keyedPair(t *testing.T, hosts int) (l *lab.Lab, key mesh.Key, members [2]*host, fake *ollamatest.Server) {
	t.Helper()
	need.NotShort(t, "hosts in namespaces")
	l, key = lab.Up(t, hosts), mesh.NewKey()
	file := keyFile(t, key)
	for i := range members {
		members[i] = newHost(t, l.Node(i+1))
	}
	fake = members[1].fakeOllama(ollamatest.Model{Name: modelCanary, Size: 1 << 20, Decode: 2000})
	for _, m := range members {
		m.join("--key-file", file)
	}
	await(t, patience, "two members", func() bool { return members[0].alive() == 2 && members[1].alive() == 2 })
	await(t, patience, "the model known", func() bool {
		m, _ := members[0].members()
		for _, member := range m.Members {
			if len(member.Models) == 1 {
				return true
			}
		}
		return false
	})
	return l, key, members, fake
}

const (
	promptCanary = "prompt-canary-4711"
	modelCanary  = "model-canary-4711"
)

func (h *host) stderr() string { return h.Proc.Stderr.String() }

// Whoever does not belong stays out, each in its own way, and the members say
// so in a line.
func TestStrangersStayOut(t *testing.T) {
	l, _, members, _ := keyedPair(t, 3)
	addr := members[0].IP().String()
	spent, since := members[0].CPU(), time.Now()
	unchanged := func(t *testing.T) {
		t.Helper()
		for _, m := range members {
			if got, ok := m.members(); !ok || len(got.Members) != 2 || m.alive() != 2 {
				t.Errorf("%s has members %+v", m, got.Members)
			}
		}
	}
	lines := func(text string) int {
		n := 0
		for _, m := range members {
			n += strings.Count(m.stderr(), text)
		}
		return n
	}

	t.Run("without the key", func(t *testing.T) {
		h := newHost(t, l.Node(3))
		h.join()
		err := h.Proc.Wait()
		if err == nil || !strings.Contains(h.stderr(), "has a key and this node has none") || !strings.Contains(h.stderr(), "fix: put its key into a file") {
			t.Errorf("it ended with %v and said\n%s", err, h.stderr())
		}
		unchanged(t)
		if n := lines("a node that cannot join knocked"); n < 1 || n > 2 {
			t.Errorf("members logged %d lines", n)
		}
	})
	t.Run("with a wrong key", func(t *testing.T) {
		h := newHost(t, l.Node(3))
		h.join("--key-file", keyFile(t, mesh.NewKey()), "--seed", addr)
		await(t, patience, "told of the wrong key", func() bool { return strings.Contains(h.stderr(), "another mesh of this name has another key") })
		if h.alive() > 1 {
			t.Error("it has members")
		}
		unchanged(t)
		h.Proc.Kill()
	})
	t.Run("with a copied state directory", func(t *testing.T) {
		h := newHost(t, l.Node(3))
		if err := os.CopyFS(h.State, os.DirFS(members[1].State)); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(filepath.Join(h.State, identity.KeyFile), 0o600)
		_ = os.Chmod(filepath.Join(h.State, mesh.KeyFile), 0o600)
		h.join("--seed", addr)
		await(t, patience, "one of the two ended or told", func() bool {
			return strings.Contains(h.stderr(), "another node runs with this node's key")
		})
		unchanged(t)
		h.Proc.Kill()
	})
	t.Run("with a forged mdns answer", func(t *testing.T) {
		// It claims to be the second member, at an address of its own.
		var id string
		m, _ := members[0].members()
		for _, member := range m.Members {
			if !member.Self {
				id = member.ID
			}
		}
		ln, err := l.Node(3).Listen("tcp", l.Node(3).IP().String()+":11437")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		heard := make(chan []byte, 64)
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
				said, _ := io.ReadAll(io.LimitReader(conn, 4<<10))
				conn.Close()
				heard <- said
			}
		}()
		forge(t, l.Node(3), id+"x", l.Node(3).IP())
		select {
		case said := <-heard:
			// What a member tells whoever answers: not who it is, nor what its
			// mesh is called.
			if bytes.Contains(said, []byte("home")) || bytes.Contains(said, []byte(m.Self)) || bytes.Contains(said, []byte(id)) {
				t.Errorf("a member told %q", said)
			}
		case <-time.After(patience):
			t.Error("nobody looked at the forged address: the test proves nothing")
		}
		forge(t, l.Node(3), id, l.Node(3).IP())
		unchanged(t)
	})
	t.Run("with someone else's fingerprint", func(t *testing.T) {
		thief, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		m, _ := members[0].members()
		for _, member := range m.Members {
			if member.Self {
				err = peerCall(t, l.Node(3), thief, mesh.NodeID(member.ID), addr+":11436")
			}
		}
		if err == nil {
			t.Error("the peer port answered a stranger")
		}
		await(t, patience, "a line about it", func() bool { return lines("a node that is no member called on the peer port") == 1 })
		unchanged(t)
	})
	if used, took := members[0].CPU()-spent, time.Since(since); used > took/4 {
		t.Errorf("a member used %v of CPU in %v", used, took)
	} else {
		t.Logf("a member used %v of CPU in %v", used, took)
	}
}

// peerCall asks a peer port for a card as the node id.
func peerCall(t *testing.T, from *lab.Node, id *identity.Identity, to mesh.NodeID, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	raw, err := from.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	cfg := id.ClientTLS(to)
	cfg.NextProtos = []string{"http/1.1"}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /mesh/v1/card HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		err = errors.New(string(answer[:min(len(answer), 40)]))
	}
	return err
}

// forge sends an mDNS answer from a host: the node id is at ip.
func forge(t *testing.T, from *lab.Node, id string, ip netip.Addr) {
	t.Helper()
	raw, err := machine.ForgedAnswer(id, ip)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := from.ListenPacket("udp4", ip.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 20 { // browsers listen in windows
		if _, err := conn.WriteTo(raw, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// What passes between two members tells an observer nothing, and replaying all
// of it brings nobody in.
func TestTheWireOfAKeyedMeshTellsNothing(t *testing.T) {
	l, key, members, fake := keyedPair(t, 3)
	captures := []*capture{members[0].sniff(), members[1].sniff()}
	r := members[0].ask(t.Context(), "/api/generate", map[string]any{
		"model": modelCanary, "prompt": promptCanary, "options": map[string]any{"num_predict": 8},
	})
	if r.err != nil || !r.done || len(fake.Stats().Requests) == 0 {
		t.Fatalf("the request over two hosts: %+v", r)
	}
	// The second member comes anew, so that a whole join is on the wire, and
	// says by a last client request that the sniffer hears everything.
	members[1].Proc.Kill()
	await(t, patience, "its end seen", func() bool { return members[0].alive() == 1 })
	members[1].Again()
	await(t, patience, "two members again", func() bool { return members[0].alive() == 2 && members[1].alive() == 2 })
	const proof = "proof-that-the-sniffer-hears"
	if resp, err := l.Node(3).HTTPClient().Get("http://" + members[0].IP().String() + ":11435/" + proof); err == nil {
		resp.Body.Close()
	}
	await(t, patience, "the proof on the wire", func() bool {
		data, err := os.ReadFile(captures[0].path)
		return err == nil && bytes.Contains(data, []byte(proof))
	})
	m, _ := members[0].members()
	raw, segments := captures[0].end()
	more, _ := captures[1].end()
	raw = append(raw, more...)
	for _, c := range captures {
		t.Log(c.protocols())
	}

	secrets := map[string]string{
		"the prompt": promptCanary, "the model's name": modelCanary, "the key": key.String()[6:30],
		"a node's name": members[1].String(), "an answer": strings.TrimSpace(r.text),
	}
	for _, member := range m.Members {
		if member.Hardware != nil && len(member.Hardware.CPU) > 3 {
			secrets["the processor"] = member.Hardware.CPU
		}
	}
	for what, text := range secrets {
		if len(text) > 3 && bytes.Contains(raw, []byte(text)) {
			t.Errorf("%s (%.60q) is in clear on the wire", what, text)
		}
	}
	if !bytes.Contains(raw, []byte(proof)) {
		t.Error("what was said in clear was not seen; the test proves nothing")
	}
	t.Logf("%d segments, %d bytes looked at", len(segments), len(raw))

	gossip := netip.AddrPortFrom(members[0].IP(), 11437)
	udp, streams := 0, map[netip.AddrPort][]byte{}
	next := map[netip.AddrPort]uint32{}
	out, err := l.Node(3).ListenPacket("udp4", l.Node(3).IP().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, s := range segments {
		switch {
		case s.dst != gossip || len(s.data) == 0:
		case !s.tcp:
			udp++
			if _, err := out.WriteTo(s.data, net.UDPAddrFromAddrPort(gossip)); err != nil {
				t.Fatal(err)
			}
		case next[s.src] == 0 || next[s.src] == s.seq:
			next[s.src] = s.seq + uint32(len(s.data))
			streams[s.src] = append(streams[s.src], s.data...)
		}
	}
	for _, data := range streams {
		conn, err := l.Node(3).DialContext(t.Context(), "tcp", gossip.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write(data)
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	if udp == 0 || len(streams) == 0 {
		t.Errorf("%d datagrams and %d streams were replayed: the test proves nothing", udp, len(streams))
	}
	t.Logf("replayed %d datagrams and %d streams", udp, len(streams))
	got, ok := members[0].members()
	if !ok || len(got.Members) != 2 || members[0].alive() != 2 {
		t.Errorf("after the replay: %+v", got.Members)
	}
	for _, member := range got.Members {
		if strings.HasPrefix(member.Address, l.Node(3).IP().String()+":") {
			t.Error("a member moved to the attacker's address")
		}
	}
}
