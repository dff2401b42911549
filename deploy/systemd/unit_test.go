package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// most is the exposure that the unit may have at most; Ollama's own, as its
// documentation has it, has 9.2 (systemd-analyze of 252).
const most = 2.0

func TestTheUnitIsHardened(t *testing.T) {
	for name, files := range map[string][]string{
		"cpu":         {"kage-mesh.service"},
		"gpu and key": {"kage-mesh.service", "gpu.conf", "key.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			unit := together(t, files...)
			out, _ := analyze(t, "security", "--offline=true", "--no-pager", unit)
			found := regexp.MustCompile(`Overall exposure level for kage-mesh\.service: ([0-9.]+)`).FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("no exposure in:\n%s", out)
			}
			score, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("exposure %.1f", score)
			if score > most {
				t.Errorf("exposure %.1f, at most %.1f:\n%s", score, most, out)
			}
		})
	}
}

// systemd knows every setting: a slip in a name is a warning that nobody reads
// and a protection that is not there.
func TestSystemdTakesTheUnit(t *testing.T) {
	unit := together(t, "kage-mesh.service", "gpu.conf", "key.conf")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable() // any program that is there
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "/usr/bin/kage-mesh", self, 1))
	if err := os.WriteFile(unit, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := analyze(t, "verify", "--man=no", unit); err != nil || strings.Contains(out, "kage-mesh.service:") {
		t.Errorf("%v\n%s", err, out)
	}
}

// together is one unit made of a unit and its drop-ins.
func together(t *testing.T, files ...string) string {
	t.Helper()
	var text []byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, data...)
	}
	unit := filepath.Join(t.TempDir(), "kage-mesh.service")
	if err := os.WriteFile(unit, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return unit
}

func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		need.Missing(t, "systemd: needs systemd-analyze (make deps installs it on Debian)")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}
