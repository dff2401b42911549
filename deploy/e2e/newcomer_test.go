//go:build linux

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// typing is a person at 60 words a minute.
const typing = time.Second / 5 // per character

// readmeSection is what a section's fenced blocks hold, a list of lines each.
func readmeSection(t *testing.T, title string) (blocks [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for i, part := range strings.Split(section, "```") {
		if i%2 == 1 {
			_, body, _ := strings.Cut(part, "\n")
			blocks = append(blocks, strings.Split(strings.TrimSpace(body), "\n"))
		}
	}
	return blocks
}

// A newcomer types what the README's first section says, on two machines, and
// has an answer of the one machine's model through the other. Only the
// installation is not run: the program is there already.
func TestNewcomer(t *testing.T) {
	need.NotShort(t, "hosts in namespaces")
	cli := realollama.Binary(t, "")
	blocks := readmeSection(t, "Two machines in two minutes")
	if len(blocks) != 3 {
		t.Fatalf("%d blocks: %q", len(blocks), blocks)
	}
	bin := t.TempDir()
	for name, target := range map[string]string{"kage-mesh": binary, "ollama": cli} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	l := lab.Up(t, 2)
	homes := map[int]string{1: t.TempDir(), 2: t.TempDir()}
	command := func(n int, line string) *exec.Cmd {
		cmd := l.Node(n).Command(context.Background(), "sh", "-c", line)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + homes[n]}
		return cmd
	}
	// The first machine has the model that the README asks, the second another.
	for n, model := range map[int]string{1: "qwen2.5:72b", 2: "llama3.2"} {
		p := &patient{host: newHost(t, l.Node(n))}
		p.runOllama(ollamaAddr, ollamatest.Config{Models: []ollamatest.Model{{Name: model, Size: 1 << 30, Decode: 500}}})
		t.Cleanup(p.stopOllama)
	}

	begin := time.Now()
	var typed int
	key := func(line string) { typed += len(line) + 1 }
	for n := 1; n <= 2; n++ {
		for _, line := range blocks[0] {
			key(line)
			if strings.HasPrefix(line, "go install") {
				continue
			}
			p := l.Node(n).StartCommand(command(n, "exec "+line))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if err := p.Stdout.Await(ctx, "try: "); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
	}
	ask := blocks[2][0]
	key(ask)
	key("hi")
	cmd := command(2, ask)
	cmd.Stdin = strings.NewReader("hi\n")
	out, err := cmd.Output()
	if err != nil || len(strings.Fields(string(out))) < 10 {
		t.Fatalf("%s: %v\n%s", ask, err, out)
	}
	machine := time.Since(begin)
	person := time.Duration(typed) * typing
	t.Logf("%d characters: %.0f s of typing; the machines took %.1f s beside it", typed, person.Seconds(), machine.Seconds())
	if person > time.Minute {
		t.Errorf("%v of typing until the first answer", person)
	}

	// The other lines work, too.
	for _, line := range blocks[2][1:] {
		out, err := command(2, line).Output()
		if err != nil || !slices.ContainsFunc([]string{"choices", "alive"}, func(s string) bool { return strings.Contains(string(out), s) }) {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
