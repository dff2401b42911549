//go:build linux

package readme

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// block is a fenced block of Markdown.
type block struct {
	file     string
	line     int
	language string
	text     string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// blocks finds the fenced blocks of a text.
func blocks(file, text string) (out []block) {
	var open *block
	n := 0
	for line := range strings.Lines(text) {
		n++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{file: file, line: n, language: strings.TrimSpace(fence)}
		case isFence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return out
}

func TestBlocks(t *testing.T) {
	got := blocks("x.md", "a\n```sh\nls\npwd\n```\n```\nno\n```\n```yaml\n```\n")
	want := []block{{"x.md", 2, "sh", "ls\npwd\n"}, {"x.md", 6, "", "no\n"}, {"x.md", 9, "yaml", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

const root = "../.."

// documents are the blocks to run, in the order that they are run in: the
// README as one person works through it, and then the plugin's; infra-nodes is
// the last, for it ends with the node's leave.
func documents(t *testing.T) (out []block) {
	t.Helper()
	skills, err := filepath.Glob(filepath.Join(root, "deploy/claude-plugin/skills/*/SKILL.md"))
	if err != nil || len(skills) < 4 {
		t.Fatalf("%d skills, %v", len(skills), err)
	}
	slices.SortStableFunc(skills, func(a, b string) int {
		return strings.Count(a, "infra-nodes") - strings.Count(b, "infra-nodes")
	})
	for _, path := range append([]string{filepath.Join(root, "README.md")}, skills...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, blocks(name, string(text))...)
	}
	return out
}

// A block says what it is, so that none escapes being run by an oversight.
func TestEveryBlockSaysWhatItIs(t *testing.T) {
	for _, b := range documents(t) {
		if !slices.Contains([]string{"sh", "bash", "text", "yaml"}, b.language) {
			t.Errorf("%s: it is %q; sh is run, text and yaml are not", b, b.language)
		}
		if b.language == "text" && strings.Contains(b.text, "\nkage-mesh ") && !strings.Contains(b.text, "✓") {
			t.Errorf("%s: commands in a block that is not run", b)
		}
	}
}
