package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Whatever a configuration file holds, join takes it or says in a line what is
// wrong with it; it never panics.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "name: gpu-box\n", "allow:\n  - 10.0.0.0/8\n  - 192.168.1.7\n", "nome: x\n", "- a\n- b\n", "name: [a, [b, {c: d}]]\n",
		"name: {a: b}\n", "tls: maybe\n", "max-body: 64MiB\n", "max-body: -1\n", "grace: 10\n", "a: &a [*a]\n", "name: *missing\n",
		"name: !!binary aGVsbG8=\n", "\xff\xfe", "allow: '*'\norigins: 'http://*.*'\n", "config: other.yaml\n", "name: ~\n", "{\"name\": 1}",
		"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nname: *c\n", "<<: {name: x}\n", "seed: a\nseed: b\n",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "config.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		e := environment{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) string { return "" }}
		join := e.joinCommand()
		join.Action = func(c *cli.Context) error {
			_, err := e.guardConfig(c)
			return err
		}
		app := &cli.App{Commands: []*cli.Command{join}, Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}}
		if err := app.RunContext(t.Context(), []string{"kage-mesh", "join", "--config", path}); err != nil && len(err.Error()) > len(data)*8+500 {
			t.Errorf("an error of %d bytes for a file of %d", len(err.Error()), len(data))
		}
	})
}
