package scale

import (
	"strings"
	"testing"
	"time"
)

func TestRunMeasures(t *testing.T) {
	if testing.Short() {
		t.Skip("several seconds of gossip, not with -short")
	}
	r, err := Run(t.Context(), 6, Options{Window: 3 * time.Second, Limit: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if r.Joined == 0 || r.Seen == 0 || r.Returned == 0 || r.Died != 1 || r.Datagrams <= 0 || r.Bytes <= 0 || r.Memory == 0 {
		t.Errorf("not measured: %+v", r)
	}
	if r.Stale50 <= 0 || r.Stale99 < r.Stale50 {
		t.Errorf("ages %s and %s", r.Stale50, r.Stale99)
	}
	var out strings.Builder
	Write(&out, []Result{r})
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 3 || strings.Count(lines[0], "|") != strings.Count(lines[2], "|") {
		t.Errorf("no table:\n%s", &out)
	}
}
