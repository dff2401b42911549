package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// The manual names every command and flag that can be seen, and nothing of the
// machine that it was made on.
func TestManPageIsWhole(t *testing.T) {
	page := run(t, nil, "man")
	if page.code != 0 {
		t.Fatalf("%+v", page)
	}
	plain := strings.ReplaceAll(page.stdout, `\-`, "-")
	var look func(before string, all []*cli.Command)
	look = func(before string, all []*cli.Command) {
		for _, c := range all {
			if c.Hidden || c.Name == "help" {
				continue
			}
			name := before + " " + c.Name
			if !strings.Contains(plain, "\n.SS "+name) {
				t.Errorf("it lacks %s", name)
			}
			for _, f := range c.Flags {
				if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() && !strings.Contains(plain, "\n.B --"+f.Names()[0]) {
					t.Errorf("it lacks --%s of %s", f.Names()[0], name)
				}
			}
			look(name, c.Subcommands)
		}
	}
	look("kage-mesh", newApp(environment{}).Commands)
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 && strings.Contains(plain, home) {
		t.Errorf("it names %s", home)
	}
	for line := range strings.Lines(page.stdout) {
		if strings.HasPrefix(line, "'") {
			t.Errorf("roff would read a command: %s", line)
		}
	}
}

// groff, with its warnings on, has nothing to say of it.
func TestManPageIsTaken(t *testing.T) {
	path, err := exec.LookPath("groff")
	if err != nil {
		need.Missing(t, "man: needs groff (make deps installs it on Debian)")
	}
	cmd := exec.Command(path, "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = strings.NewReader(run(t, nil, "man").stdout)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
