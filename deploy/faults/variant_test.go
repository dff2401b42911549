//go:build linux

package faults

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// variant builds another kage-mesh: each file, relative to the module or
// absolute, with one text in the place of another.
func (s *scene) variant(name string, edits map[string][2]string, flags ...string) string {
	s.Helper()
	dir := s.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, edit := range edits {
		if !filepath.IsAbs(file) {
			file = filepath.Join("..", "..", file)
		}
		path, err := filepath.Abs(file)
		if err != nil {
			s.Fatal(err)
		}
		source, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		if strings.Count(string(source), edit[0]) != 1 {
			s.Fatalf("%s does not hold once what is to be replaced: %q", file, edit[0])
		}
		changed := filepath.Join(dir, strings.ReplaceAll(filepath.Base(filepath.Dir(path)), "/", "-")+"-"+filepath.Base(path))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(source), edit[0], edit[1], 1)), 0o600); err != nil {
			s.Fatal(err)
		}
		overlay.Replace[path] = changed
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		s.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		s.Fatal(err)
	}
	out := filepath.Join(dir, name)
	args := append([]string{"build", "-overlay", file, "-o", out}, flags...)
	build := exec.CommandContext(s.Context(), "go", append(args, "github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh")...)
	if text, err := build.CombinedOutput(); err != nil {
		s.Fatalf("building a %s kage-mesh: %v\n%s", name, err, text)
	}
	return out
}

// goroot is where the Go sources are.
func goroot(s *scene) string {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
