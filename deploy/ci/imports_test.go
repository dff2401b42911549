package ci

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/AI-Prompt-Ops-Kitchen/kage-mesh"

// rule forbids packages to depend on others, directly or through others.
// Names are paths in the module; one that ends in /... stands for the package
// and all below it.
type rule struct {
	from   string
	except []string // of from
	never  []string
	but    []string // of never
	why    string
}

// The direction of the imports. Rooms that do not exist are no offence.
var rules = []rule{
	{
		from: "...", except: []string{"cmd/..."}, never: []string{"cmd/..."},
		why: "commands wire everything together, so nothing may need one",
	},
	{
		from: "...", except: []string{"deploy/..."}, never: []string{"deploy/..."},
		why: "deploy holds what surrounds the program; only tests use its packages",
	},
	{
		from: "mesh/...", never: []string{"router/...", "discovery/...", "bench/..."},
		why: "membership is whole without requests, and is simulated and tested alone",
	},
	{
		from: "mesh/identity", never: []string{"..."}, but: []string{"mesh/identity"},
		why: "a leaf: who a node is depends on nothing",
	},
	{
		from: "mesh/hardware", never: []string{"..."}, but: []string{"mesh/hardware"},
		why: "a leaf: what a machine is depends on nothing",
	},
	{
		from: "discovery/...", never: []string{"..."}, but: []string{"discovery/..."},
		why: "it says where peers might be, to whoever implements its Joiner",
	},
	{
		from: "router/...", never: []string{"bench/...", "discovery/..."},
		why: "the simulator and the discovery are users and neighbours of routing, not parts of it",
	},
	{
		from: "router/...", except: []string{"router/admin/...", "router/dashboard/...", "router/node/..."},
		never: []string{"router/admin/...", "router/dashboard/..."},
		why:   "serving a request must not need the node's own API or its page",
	},
	{
		from: "...", except: []string{"cmd/...", "bench/...", "router/node/..."}, never: []string{"router/node/..."},
		why: "it puts the parts of a node together, so no part may need it",
	},
	{
		from: "router/...", except: []string{"router/ollamatest/..."}, never: []string{"router/ollamatest/...", "mesh/meshtest/..."},
		why: "fakes are for tests, bench and demo",
	},
	{
		from: "router/wire", never: []string{"..."}, but: []string{"router/wire"},
		why: "a leaf: reading a dialect needs no mesh",
	},
	{
		from: "router/ollamatest", never: []string{"..."}, but: []string{"router/ollamatest"},
		why: "a leaf: a fake Ollama made of our own parser would share its mistakes",
	},
	{
		from: "router/backend", never: []string{"router"},
		why: "the local Ollama knows nothing of where requests come from",
	},
}

// broken returns, for one package, what its dependencies break, "" if nothing.
func (r rule) broken(pkg string, deps []string) string {
	if !matches(pkg, r.from) || matchesAny(pkg, r.except) {
		return ""
	}
	for _, d := range deps {
		if d != pkg && matchesAny(d, r.never) && !matchesAny(d, r.but) {
			return d
		}
	}
	return ""
}

func matches(pkg, pattern string) bool {
	if strings.HasPrefix(pkg, foreign) {
		return false
	}
	room, all := strings.CutSuffix(pattern, "...")
	room = strings.TrimSuffix(room, "/")
	return pkg == room || all && (room == "" || strings.HasPrefix(pkg, room+"/"))
}

func matchesAny(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(pkg, p) })
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range packages(t) {
		for _, r := range rules {
			if d := r.broken(p.ImportPath, p.Deps); d != "" {
				t.Errorf("%s depends on %s: %s", p.ImportPath, d, r.why)
			}
		}
	}
}

func TestTheProgramLinksNoTestingCode(t *testing.T) {
	for _, p := range packages(t) {
		if !matches(p.ImportPath, "cmd/...") {
			continue
		}
		for _, d := range []string{foreign + "testing", foreign + "net/http/httptest", "mesh/meshtest"} {
			if slices.Contains(p.Deps, d) {
				t.Errorf("%s depends on %s: it registers flags and weighs on a program that users run", p.ImportPath, d)
			}
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		pkg, dep string
		ok       bool
	}{
		{"mesh", "mesh/identity", true},
		{"mesh", "router/wire", false},
		{"mesh/identity", "mesh", false},
		{"meshes", "router", true},
		{"router", "mesh", true},
		{"router", "router/admin", false},
		{"router/admin", "router", true},
		{"router/dashboard", "router/admin", true},
		{"router/node", "router/admin", true},
		{"router/admin", "router/node", false},
		{"bench/fleet", "router/node", true},
		{"router", "router/ollamatest", false},
		{"bench/fleet", "router/ollamatest", true},
		{"bench/fleet", "cmd/kage-mesh", false},
		{"discovery", "mesh", false},
		{"discovery/mdns", "discovery", true},
		{"router/wire", foreign + "strings", true},
		{"cmd/kage-mesh", "bench/fleet", true},
		{"cmd/kage-mesh", "deploy/lab", false},
		{"deploy/realollama", "deploy/tinymodels", true},
	} {
		var why []string
		for _, r := range rules {
			if r.broken(c.pkg, []string{c.dep}) != "" {
				why = append(why, r.why)
			}
		}
		if (len(why) == 0) != c.ok {
			t.Errorf("%s on %s: allowed %v, want %v %v", c.pkg, c.dep, len(why) == 0, c.ok, why)
		}
	}
}

// foreign marks packages that are not of this module.
const foreign = "foreign:"

type listed struct {
	ImportPath string   // in the module
	Deps       []string // see own
}

// packages lists the module's packages with everything that their non-test
// code depends on.
func packages(t *testing.T) (all []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = own(p.ImportPath)
		for i, d := range p.Deps {
			p.Deps[i] = own(d)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}

// own is the path in the module of one of our packages; others keep theirs
// behind a mark that no rule matches.
func own(path string) string {
	if path == module {
		return "."
	}
	if p, ok := strings.CutPrefix(path, module+"/"); ok {
		return p
	}
	return foreign + path
}
