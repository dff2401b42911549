package discovery

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// multicastOnThisHost lets two nodes of this process find each other on this
// machine's real network, under a service name that no other test uses. It
// stands in for the lab where there is none.
func multicastOnThisHost(t *testing.T) {
	before := goleak.IgnoreCurrent()
	service := "_km" + strings.ToLower(rand.Text()[:10]) + "._tcp"
	start := func(id string, port int) (*MDNS, chan Peer) {
		m, err := NewMDNS(MDNSConfig{Instance: id, Cluster: "test", Protocol: 1, Port: port, Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return m, make(chan Peer, 100)
	}
	a, foundA := start("a", 11437)
	b, foundB := start("b", 21437)
	if len(a.links()) == 0 {
		t.Skip("multicast test skipped: no network interface that can multicast")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	run := func(m *MDNS, found chan Peer) {
		wg.Go(func() {
			_ = m.Run(ctx, func(p Peer) {
				select {
				case found <- p:
				default:
				}
			})
		})
	}
	run(a, foundA)
	run(b, foundB)
	deadline := time.After(20 * time.Second)
	for _, tt := range []struct {
		found chan Peer
		id    string
	}{{foundA, "b"}, {foundB, "a"}} {
		select {
		case p := <-tt.found:
			if p.ID != tt.id || p.Cluster != "test" {
				t.Errorf("found %+v, want %s", p, tt.id)
			}
		case <-deadline:
			t.Fatal("two nodes on one machine did not find each other (does a firewall, or the local network permission of macOS, block multicast?)")
		}
	}
	// The library's announcing goroutine sleeps for up to 3.5 s.
	cancel()
	wg.Wait()
	deadline = time.After(5 * time.Second)
	for err := goleak.Find(before); err != nil; err = goleak.Find(before) {
		select {
		case <-deadline:
			t.Fatal(err)
		default:
		}
	}
}
