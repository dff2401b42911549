package hardware

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fixture makes a System of testdata/name.txt: a line about the machine, then
// sections "-- path --" with a file's text, or "-- $ command args --" with what
// a command prints, "! n" for exit status n.
func fixture(t testing.TB, name string) System {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return systemOf(t, string(data))
}

type said struct {
	out  string
	exit string
}

func systemOf(t testing.TB, text string) System {
	t.Helper()
	root := t.TempDir()
	commands := map[string]said{}
	s := System{Root: root, GOOS: "linux", GOARCH: "amd64"}
	write := func(head, body string) {
		if command, ok := strings.CutPrefix(head, "$ "); ok {
			command, exit, _ := strings.Cut(command, " ! ")
			commands[command] = said{body, exit}
			if strings.HasPrefix(command, sysctlPath) {
				s.GOOS, s.GOARCH = "darwin", "arm64"
			}
			return
		}
		path := filepath.Join(root, filepath.FromSlash(head))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	head, body := "", ""
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(line)
		if strings.HasPrefix(bare, "-- ") && strings.HasSuffix(bare, " --") {
			if head != "" {
				write(head, body)
			}
			head, body = strings.TrimSuffix(strings.TrimPrefix(bare, "-- "), " --"), ""
			continue
		}
		body += line
	}
	if head != "" {
		write(head, body)
	}
	s.Run = func(_ context.Context, name string, args ...string) ([]byte, error) {
		c, ok := commands[strings.Join(append([]string{name}, args...), " ")]
		if !ok {
			return nil, exec.ErrNotFound
		}
		if c.exit != "" {
			return []byte(c.out), fmt.Errorf("exit status %s", c.exit)
		}
		return []byte(c.out), nil
	}
	s.LookPath = func(name string) (string, error) {
		for c := range commands {
			if strings.HasPrefix(c, name+" ") {
				return name, nil
			}
		}
		return "", exec.ErrNotFound
	}
	return s
}
