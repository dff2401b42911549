package router

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

func TestAcquainted(t *testing.T) {
	self := func(o ...meshtest.MemberOption) *mesh.Member {
		return meshtest.Member("self", append([]meshtest.MemberOption{meshtest.Self()}, o...)...)
	}
	tests := []struct {
		name    string
		members []*mesh.Member
		want    bool
	}{
		{"nobody but itself", []*mesh.Member{self()}, false},
		{"itself has the model", []*mesh.Member{self(meshtest.Models("m:latest"))}, true},
		{"another whose card is still to come", []*mesh.Member{self(), meshtest.Member("a", meshtest.NoCard())}, false},
		{"another who has it", []*mesh.Member{self(meshtest.NoCard()), meshtest.Member("a", meshtest.Models("m:latest"))}, true},
		{"others, known, without it", []*mesh.Member{self(), meshtest.Member("a", meshtest.Models("n:latest"))}, true},
		{"a dead one that had it", []*mesh.Member{self(), meshtest.Member("a", meshtest.Models("m:latest"), meshtest.Gone(mesh.Failed))}, false},
	}
	for _, tt := range tests {
		if got := acquainted(mesh.NewView(1, time.Now(), tt.members), "m:latest"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Only a young node waits, and no longer than it is young.
func TestANewbornMeetsItsMeshFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := func(ctx context.Context, _ func(*mesh.View) bool) (*mesh.View, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := &Router{config: Config{Await: forever}, born: time.Now()}
		began := time.Now()
		time.Sleep(time.Second)
		r.meet(t.Context(), "m:latest")
		if took := time.Since(began); took != infancy {
			t.Errorf("it waited until %v after its start", took)
		}
		r.meet(t.Context(), "m:latest")
		if took := time.Since(began); took != infancy {
			t.Errorf("grown up, it waited until %v", took)
		}
	})
}
