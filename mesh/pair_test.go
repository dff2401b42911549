package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// pair runs two joined meshes with their peer listeners until the test ends;
// change sees each before it runs.
func pair(t *testing.T, change func(i int, c *Config), before func(i int, m *Mesh)) []*Mesh {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	meshes := make([]*Mesh, 2)
	for i := range meshes {
		id, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Identity, cfg.Bind = id, netip.MustParseAddrPort("127.0.0.1:0")
		cfg.Info.PeerPort = ln.Addr().(*net.TCPAddr).Port
		change(i, &cfg)
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		before(i, m)
		meshes[i] = m
		srv := &http.Server{Handler: m.Handler(), TLSConfig: id.ServerTLS(m.Allow), ErrorLog: log.New(io.Discard, "", 0)}
		identity.ConfigureServer(srv)
		wg.Go(func() { _ = srv.ServeTLS(ln, "", "") })
		t.Cleanup(func() { _ = srv.Close() })
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := meshes[1].Join(ctx, meshes[0].Addr().String()); err != nil {
		t.Fatal(err)
	}
	return meshes
}

func await(t *testing.T, m *Mesh, what string, ok func(*View) bool) *View {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	v, err := m.Wait(ctx, ok)
	if err != nil {
		t.Fatalf("%s did not happen", what)
	}
	return v
}

// Two nodes whose load datagrams get lost on the way (some networks pass no
// UDP) still learn each other's load, over the peer link.
func TestLoadsGetThroughWithoutDatagrams(t *testing.T) {
	meshes := pair(t, func(int, *Config) {}, func(i int, m *Mesh) {
		m.transport.datagram = noDatagram // lost
		if i == 0 {
			m.Publish(Load{Up: true, Running: 5})
		}
	})
	begin := time.Now()
	await(t, meshes[1], "load", func(v *View) bool {
		m, ok := v.Member(meshes[0].ID())
		return ok && m.Load != nil && m.Load.Running == 5
	})
	t.Logf("a load got through without datagrams after %v", time.Since(begin).Round(time.Millisecond))
}

// Whatever arrives at the gossip port, the mesh goes on.
func TestGarbageOnTheGossipPort(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("keyed=%v", keyed), func(t *testing.T) {
			key := NewKey()
			meshes := pair(t, func(_ int, c *Config) {
				if keyed {
					c.Keys = []Key{key}
				}
			}, func(int, *Mesh) {})
			to := meshes[0].Addr()
			udp, err := net.Dial("udp", to.String())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			head := append([]byte{labelByte, 14}, label("home")...)
			noise := func(n int) []byte {
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				return b
			}
			for i := range 3000 {
				b := noise(rng.IntN(200))
				switch i % 4 {
				case 0: // for the gossip engine: every message type
					b = append(append(bytes.Clone(head), byte(i/4%16)), b...)
				case 1: // a beacon
					b = append([]byte{ourByte, beaconSigned}, b...)
				case 2: // sealed by nobody
					b = append(append(bytes.Clone(head), 1), b...)
				}
				if _, err := udp.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 60 {
				conn, err := net.Dial("tcp", to.String())
				if err != nil {
					t.Fatal(err)
				}
				b := noise(rng.IntN(300))
				switch i % 3 {
				case 0:
					b = append(append(bytes.Clone(head), byte(i/3%16)), b...)
				case 1:
					b = append([]byte{ourByte}, b...)
				}
				_, _ = conn.Write(b) // it may have hung up already
				conn.Close()
			}
			meshes[0].Publish(Load{Up: true, Running: 77})
			await(t, meshes[1], "a load after the noise", func(v *View) bool {
				m, ok := v.Member(meshes[0].ID())
				return ok && m.Status == Alive && m.Load != nil && m.Load.Running == 77
			})
			for _, m := range meshes {
				if n := len(m.View().Members()); n != 2 {
					t.Errorf("%d members", n)
				}
			}
		})
	}
}

// Each announcement is news that every member sends on a dozen times, and member
// lists are exchanged over and over while a mesh grows: only the first time a
// node also announces that it joins. Serf's clock of membership counts them.
func TestAJoinIsAnnouncedOnce(t *testing.T) {
	meshes := pair(t, func(int, *Config) {}, func(int, *Mesh) {})
	clock := func(m *Mesh) int {
		n, err := strconv.Atoi(m.engine.Load().serf.Stats()["member_time"])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	exchange := func(from, to *Mesh) {
		t.Helper()
		if err := from.engine.Load().join(to.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	calm := clock(meshes[0])
	exchange(meshes[0], meshes[1]) // which did not join before
	if clock(meshes[0]) == calm {
		t.Fatal("the first one is not announced")
	}
	// Who has heard of an announcement is as far as who made it.
	deadline := time.Now().Add(time.Minute)
	for heard := time.NewTicker(10 * time.Millisecond); clock(meshes[1]) < clock(meshes[0]); <-heard.C {
		if time.Now().After(deadline) {
			t.Fatalf("the announcement is not heard: %d, %d", clock(meshes[0]), clock(meshes[1]))
		}
	}
	before := []int{clock(meshes[0]), clock(meshes[1])}
	for range 3 {
		exchange(meshes[0], meshes[1])
		exchange(meshes[1], meshes[0])
	}
	if after := []int{clock(meshes[0]), clock(meshes[1])}; !slices.Equal(before, after) {
		t.Errorf("announced again: %d, then %d", before, after)
	}
}
