//go:build linux || darwin

package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// npm is a directory with the official clients in the versions of package.json
// and with the cases. The clients are installed once, outside the tree.
func npm(t *testing.T) string {
	t.Helper()
	need.NotShort(t, "conformance: the official clients")
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(t, "conformance: no "+tool+": install Node.js 20 or newer with npm")
		}
	}
	manifest, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(manifest)
	dir := filepath.Join(base, "kage-mesh", "npm-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		install(t, dir, manifest)
	}
	cases, err := os.ReadFile("clients.mjs")
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(here, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(here, "clients.mjs"), cases, 0o644); err != nil {
		t.Fatal(err)
	}
	return here
}

func install(t *testing.T, dir string, manifest []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--package-lock=false", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		need.Missing(t, "conformance: npm cannot install the clients: "+string(bytes.TrimSpace(out)))
	}
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// verdict is what one case gave on one server.
type verdict struct {
	Name  string
	Value any
	Error string
}

// clients runs all cases against a server.
func clients(t *testing.T, dir, url, only string) map[string]verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "clients.mjs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BASE="+url, "ONLY="+only, "LANGSMITH_TRACING=false")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, errs.Bytes())
	}
	verdicts := make(map[string]verdict)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("%v in %q", err, lines.Bytes())
		}
		verdicts[v.Name] = v
	}
	return verdicts
}

// compare prints the table of cases and fails where a mesh differs from the
// one server, or where the one server itself fails: then the case is wrong.
func compare(t *testing.T, direct map[string]verdict, mesh map[string]map[string]verdict) {
	t.Helper()
	if len(direct) < 40 {
		t.Errorf("only %d cases ran", len(direct))
	}
	same := 0
	for name, want := range direct {
		if want.Error != "" {
			t.Errorf("%s: fails on one Ollama: %s", name, want.Error)
			continue
		}
		for subject, verdicts := range mesh {
			got, ran := verdicts[name]
			switch {
			case !ran:
				t.Errorf("%s: did not run on %s", name, subject)
			case got.Error != "":
				t.Errorf("%s: fails on %s: %s", name, subject, got.Error)
			case !reflect.DeepEqual(strip(got.Value), strip(want.Value)):
				t.Errorf("%s: on %s\n  %s\non one Ollama\n  %s", name, subject, text(got.Value), text(want.Value))
			default:
				same++
			}
		}
	}
	t.Logf("%d cases on one Ollama, the same on %d meshes: %d of %d", len(direct), len(mesh), same, len(direct)*len(mesh))
}

var wordings = regexp.MustCompile(`model "(\S+)" not found(, try pulling it first)?`)

// strip takes off what a mesh says beyond Ollama: where models are, and near
// names behind an error.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			if k != "kage" && k != "node" {
				out[k] = strip(x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = strip(x)
		}
		return out
	case string:
		own, _, _ := strings.Cut(v, "; the mesh has ")
		// Ollama's own words for this changed between 0.11 and 0.33.
		return wordings.ReplaceAllString(own, "model '$1' not found")
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestOfficialClients(t *testing.T) {
	dir := npm(t)
	compareClients(t, dir, realSubjects(t, clientModels...))
}

// A real old Ollama beside a newer one is the same mesh to all clients: what the
// old one answers is what the newer one would have. It has no build of its own
// in `make ollama`, so it takes part where somebody has made it.
func TestOfficialClientsWithAnOlderOllama(t *testing.T) {
	const old = "v0.9.6"
	if !realollama.Have(old) {
		t.Skip("conformance: no Ollama " + old + ": deploy/ci/ollama.sh " + old + " builds it")
	}
	dir := npm(t)
	compareClients(t, dir, mixedSubjects(t, old, clientModels...))
}

func compareClients(t *testing.T, dir string, s subjects) {
	t.Helper()
	direct := clients(t, dir, s.direct.URL, "")
	mesh := make(map[string]map[string]verdict)
	for _, one := range s.mesh {
		mesh[one.name] = clients(t, dir, one.url, "")
	}
	compare(t, direct, mesh)
}

// Old and new Ollamas in one mesh, of fakes: there is no complete build of a
// new one. The newest alone is what the mesh must look like, but for what the
// oldest cannot do.
func TestOfficialClientsInAMeshOfMixedVersions(t *testing.T) {
	dir := npm(t)
	models := []ollamatest.Model{
		{Name: "tiny"},
		{Name: "tiny2"},
		{Name: "mid"},
		{Name: "short", Answer: 5},
		{Name: "utf8"},
		{Name: "brief"},
		{Name: "think", Capabilities: []string{"completion", "thinking"}},
		{Name: "tool", Capabilities: []string{"completion", "tools"}},
		{Name: "embed", Embedding: true},
		{Name: "loop", Loop: true, Decode: 200},
	}
	f := start(t,
		machine("old", 64*gib, &ollamatest.Config{Version: "0.9.6", Models: models}),
		machine("new", 64*gib, &ollamatest.Config{Version: "0.33.0", Models: models}),
		machine("entry", 8*gib, nil))
	for name, v := range clients(t, dir, f.Node(2).Endpoint(), "") {
		if v.Error != "" {
			t.Errorf("%s: %s", name, v.Error)
		}
	}
}
