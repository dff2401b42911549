package prometheus

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/metrics"
)

// realPage is what a node of a mesh of four shows after some work.
func realPage(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, err := fleet.Start(ctx, fleet.Seed(1000), fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entry := f.Node(0)
	for range 3 {
		if a := fleet.Ask(ctx, entry.Endpoint(), "qwen2.5:32b", "hi", 8, true); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	if a := fleet.Ask(ctx, entry.Endpoint(), "nosuch", "hi", 8, true); a.Err == nil {
		t.Fatal("a model that nobody has was served")
	}
	_, err = entry.Mesh().Wait(ctx, func(v *mesh.View) bool { // what gossip tells a little later
		for _, m := range v.Members() {
			if m.RTT > 0 && m.Load.Model("qwen2.5:32b") != nil && m.Load.Model("qwen2.5:32b").Resident {
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatal("the loaded model was not heard of")
	}
	resp, err := http.Get(entry.Endpoint() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", resp.Status, err)
	}
	return string(body)
}

// rarePage shows what a short run of a small mesh does not bring about.
func rarePage(t *testing.T) string {
	t.Helper()
	v := meshtest.View(meshtest.Member("a", meshtest.LoadOf(func(l *mesh.Load) { l.FreeDisk = 1 })))
	m := metrics.New(metrics.Config{View: func() *mesh.View { return v }, Running: func() int { return 0 }, Awareness: func() int { return 0 }})
	m.Observe(router.Record{Attempts: []router.Attempt{{Node: "a", Phase: "stream", Result: "cut"}, {Node: "b", Result: router.ResultOK}}})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

var sample = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{([^}]*)\})? `)

// labelsOf maps every series of a page to its labels.
func labelsOf(page string) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, s := range sample.FindAllStringSubmatch(page, -1) {
		if out[s[1]] == nil {
			out[s[1]] = map[string]bool{"job": true, "instance": true} // of the scrape
		}
		for _, l := range labelName.FindAllStringSubmatch(s[2], -1) {
			out[s[1]][l[1]] = true
		}
	}
	return out
}

var (
	labelName = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)`)
	selector  = regexp.MustCompile(`\b((?:kage|process|go)_[a-z_]+)\b(?:\{([^}]*)\})?`)
	grouping  = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// expressions are all queries of the alerts and the dashboard.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	rules, err := os.ReadFile("rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Only their text is read: promtool, below, knows whether they are rules.
	inExpression := false
	for line := range strings.Lines(string(rules)) {
		text, starts := strings.CutPrefix(strings.TrimSpace(line), "expr: ")
		switch {
		case starts:
			all, inExpression = append(all, text), true
		case strings.HasPrefix(text, "for:"), strings.HasPrefix(text, "labels:"):
			inExpression = false
		case inExpression:
			all[len(all)-1] += " " + text
		}
	}
	data, err := os.ReadFile("../grafana/kage-mesh.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" {
			all = append(all, v.Definition)
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d expressions found", len(all))
	}
	return all
}

// Every metric and label that an alert or a panel names is on the page, and
// every metric of ours on the page is used by one of them.
func TestAlertsAndDashboardMatchThePage(t *testing.T) {
	there := labelsOf(realPage(t) + rarePage(t))
	used := map[string]bool{}
	for _, e := range expressions(t) {
		var grouped []string
		for _, g := range grouping.FindAllStringSubmatch(e, -1) {
			for l := range strings.SplitSeq(g[1], ",") {
				grouped = append(grouped, strings.TrimSpace(l))
			}
		}
		var any map[string]bool
		for _, s := range selector.FindAllStringSubmatch(e, -1) {
			labels, ok := there[s[1]]
			if !ok {
				t.Errorf("no %s on the page, in: %s", s[1], e)
				continue
			}
			used[s[1]] = true
			any = labels
			for _, l := range labelName.FindAllStringSubmatch(s[2], -1) {
				if !labels[l[1]] {
					t.Errorf("%s has no label %s, in: %s", s[1], l[1], e)
				}
			}
		}
		for _, l := range grouped {
			if any != nil && !any[l] {
				t.Errorf("no label %s to group by, in: %s", l, e)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		base := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if strings.HasPrefix(name, "kage_") && !used[name] && !used[base+"_bucket"] {
			t.Errorf("%s is on the page, and neither alert nor panel uses it", name)
		}
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		need.Missing(t, "promtool checks the rules: apt-get install prometheus")
	}
	page := realPage(t)
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "rules.yaml"},
		{"test", "rules", "rules_test.yaml"},
		{"check", "config", "--syntax-only", "scrape.yaml"},
		{"check", "metrics"},
	} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Stdin = strings.NewReader(page)
		out, err := cmd.CombinedOutput()
		if err != nil || args[1] == "metrics" && len(out) > 0 {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
