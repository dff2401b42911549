package meshtest

import (
	"os"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

func TestViewOfMembers(t *testing.T) {
	gpu := hardware.Inventory{Role: hardware.RoleGPU, GPUs: []hardware.GPU{{Vendor: hardware.NVIDIA}}, VRAM: hardware.Bytes{N: 24 << 30, Source: hardware.Detected}}
	v := View(
		Member("a", Self(), Models("x:8b")),
		Member("b", Models("x:8b", "y:3b"), Hardware(gpu), LoadOf(func(l *mesh.Load) { l.Running = 2 })),
		Member("c", Models("x:8b"), Gone(mesh.Failed)),
		Member("d", NoCard()),
		Member("e", With(func(m *mesh.Member) { m.Info.Draining = true })),
	)
	if v.Self() == nil || v.Self().ID != ID("a") || v.Self().Name != "a" {
		t.Errorf("self is %+v", v.Self())
	}
	if got := len(v.Holders("x:8b")); got != 2 {
		t.Errorf("%d holders", got)
	}
	for name, want := range map[string]bool{"a": true, "b": true, "c": false, "d": false, "e": false} {
		m, ok := v.Member(ID(name))
		if !ok || m.Serving() != want {
			t.Errorf("%s serving: %v", name, m.Serving())
		}
		if !m.ID.Valid() || m.Context().Err() != nil {
			t.Errorf("%s: id %q, context %v", name, m.ID, m.Context().Err())
		}
	}
	b, _ := v.Member(ID("b"))
	if b.Load.Running != 2 || b.Info.GPU != "nvidia" || b.Info.VRAM != 24<<30 || b.Peer().Port() != 11436 {
		t.Errorf("b is %+v", b)
	}
	if AliveCount(v) != 4 || StatusOf(v, ID("c")) != mesh.Failed || StatusOf(v, ID("z")) != "" {
		t.Error("the counts are wrong")
	}
}

func TestMain(m *testing.M) { os.Exit(Main(m)) }
