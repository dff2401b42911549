package mesh_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

func keyed(key mesh.Key) meshtest.Option {
	return meshtest.WithConfig(func(_ int, c *mesh.Config) { c.Keys = []mesh.Key{key} })
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), meshtest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func TestRotation(t *testing.T) {
	old, next := mesh.NewKey(), mesh.NewKey()
	nodes := meshtest.Start(t, 3, keyed(old))
	if err := nodes[0].RotateKey(deadline(t), next); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[0].KeysOf(deadline(t)) {
		if len(n.Keys) != 1 || n.Keys[0] != next.Fingerprint() {
			t.Errorf("%s has %v %s", n.Name, n.Keys, n.Err)
		}
	}
	// The mesh goes on: a load goes round, everybody is alive.
	nodes[0].Publish(mesh.Load{Running: 7})
	nodes[2].Await("a load under the new key", func(v *mesh.View) bool {
		m, ok := v.Member(nodes[0].ID())
		return ok && m.Load != nil && m.Load.Running == 7
	})
	meshtest.WaitAll(t, nodes)

	t.Run("the old key is out", func(t *testing.T) {
		late := meshtest.Start(t, 1, keyed(old))[0]
		if _, err := late.Join(deadline(t), nodes[0].Addr().String()); !errors.Is(err, mesh.ErrWrongKey) {
			t.Errorf("joined with the old key: %v", err)
		}
	})
	t.Run("the new key is in", func(t *testing.T) {
		late := meshtest.Start(t, 1, keyed(next))[0]
		late.MustJoin(nodes[0])
	})
}

// A member that is alive and does not answer on its peer port stops a rotation
// before anything has changed, and is named.
func TestRotationStopsAtALaggard(t *testing.T) {
	old, next := mesh.NewKey(), mesh.NewKey()
	nodes := meshtest.Start(t, 3, meshtest.WithConfig(func(i int, c *mesh.Config) {
		c.Keys, c.Info.Hostname = []mesh.Key{old}, "node"+string(rune('a'+i))
		if i == 2 {
			c.Info.PeerPort = 1 // nobody listens there
		}
	}))
	err := nodes[0].RotateKey(deadline(t), next)
	var lag *mesh.LagError
	if !errors.As(err, &lag) || len(lag.Names) != 1 || lag.Names[0] != "nodec" || !strings.Contains(err.Error(), "nodec did not take the new key") {
		t.Fatalf("got %v", err)
	}
	for _, n := range nodes[0].KeysOf(deadline(t))[:2] {
		if len(n.Keys) != 1 || n.Keys[0] != old.Fingerprint() {
			t.Errorf("%s was left with %v", n.Name, n.Keys)
		}
	}
	nodes[2].Kill()
	nodes[0].Await("the laggard's end", func(v *mesh.View) bool { return meshtest.StatusOf(v, nodes[2].ID()) == mesh.Failed })
	if err := nodes[0].RotateKey(deadline(t), next); err != nil {
		t.Errorf("without the laggard: %v", err)
	}
}

func TestOpenMeshHasNothingToRotate(t *testing.T) {
	n := meshtest.Start(t, 1)[0]
	if err := n.RotateKey(deadline(t), mesh.NewKey()); !errors.Is(err, mesh.ErrOpenMesh) {
		t.Error(err)
	}
	if err := n.RemoveKey(deadline(t), "aaaaaaaaaaaaa"); !errors.Is(err, mesh.ErrOpenMesh) {
		t.Error(err)
	}
}

func TestEviction(t *testing.T) {
	old, next := mesh.NewKey(), mesh.NewKey()
	dir := t.TempDir()
	nodes := meshtest.Start(t, 3, meshtest.WithConfig(func(i int, c *mesh.Config) {
		c.Keys, c.DeniedFile = []mesh.Key{old}, filepath.Join(dir, string(rune('a'+i)), mesh.DeniedFile)
	}))
	out := nodes[2]
	if err := nodes[0].Evict(deadline(t), out.ID()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:2] {
		n.Await("its end", func(v *mesh.View) bool { return meshtest.StatusOf(v, out.ID()) == "" })
		if n.Allow(out.ID()) {
			t.Error("its peer link is still open")
		}
	}
	if err := nodes[0].RotateKey(deadline(t), next); err != nil {
		t.Fatal(err)
	}
	if keys := out.KeysOf(deadline(t)); len(keys[0].Keys) != 1 || keys[0].Keys[0] != old.Fingerprint() {
		t.Errorf("the evicted node has %v", keys[0].Keys)
	}
	// Somebody who was away learns it when joining; trust takes it back for all.
	late := meshtest.Start(t, 1, keyed(next))[0]
	late.MustJoin(nodes[1])
	late.Await("the news", func(*mesh.View) bool { return late.Denied(out.ID()) })
	if err := nodes[1].Trust(deadline(t), out.ID()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*meshtest.Node{nodes[0], nodes[1], late} {
		if n.Denied(out.ID()) {
			t.Error("still denied")
		}
	}
}

// While a key is rotated over and over, no load report is lost for long and
// nobody is thought dead.
func TestRotationDisturbsNobody(t *testing.T) {
	key := mesh.NewKey()
	nodes := meshtest.Start(t, 4, keyed(key))
	var died []string
	watch, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var seen uint64
		for {
			v, err := nodes[1].Wait(watch, func(v *mesh.View) bool { return v.Generation > seen })
			if err != nil {
				return
			}
			seen = v.Generation
			for _, m := range v.Members() {
				if m.Status != mesh.Alive {
					died = append(died, m.Name+" "+string(m.Status))
				}
			}
		}
	}()
	start := time.Now()
	for i := range 3 {
		if err := nodes[i].RotateKey(deadline(t), mesh.NewKey()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("three rotations on four nodes in %v", time.Since(start))
	stop()
	<-done
	if len(died) > 0 {
		t.Errorf("seen meanwhile: %v", died)
	}
}
