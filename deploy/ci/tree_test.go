package ci

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the top of the tree, from this package's directory.
const root = "../.."

// topLevel is all that a reader meets first. What is new finds its room in
// one of these.
var topLevel = []string{
	"cmd", "mesh", "discovery", "router", "bench", "deploy",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CHANGELOG.md",
}

func TestTheTopLevelStaysAsItIs(t *testing.T) {
	for _, file := range files(t) {
		name, _, _ := strings.Cut(file, "/")
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s: %s is not one of %v", file, name, topLevel)
		}
	}
}

// unfinished is spelled so that this file does not match.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

func TestNothingIsLeftUnfinished(t *testing.T) {
	for _, file := range files(t) {
		text := read(t, file)
		if bytes.IndexByte(text, 0) >= 0 { // not text
			continue
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if m := unfinished.Find(line); m != nil && !bytes.Contains(line, append([]byte("context."), m...)) {
				t.Errorf("%s:%d: %s: do it, or say in words what holds and why", file, i+1, m)
			}
		}
	}
}

func TestEveryPackageIsExplainedOnce(t *testing.T) {
	docs := map[string][]string{}
	for _, file := range files(t) {
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, read(t, file), parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		dir := path.Dir(file)
		docs[dir] = append(docs[dir], nil...)
		if f.Doc != nil {
			docs[dir] = append(docs[dir], path.Base(file))
		}
	}
	for dir, in := range docs {
		if len(in) != 1 {
			t.Errorf("%s has a package comment in %d files %v: one says what it owns and its invariant", dir, len(in), in)
		}
	}
}

// files lists what git tracks, as paths from the top with slashes.
func files(t *testing.T) (tracked []string) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("ci: not a git checkout (%v)", err)
	}
	for file := range strings.SplitSeq(string(out), "\x00") {
		if file == "" {
			continue
		}
		// Tracked and deleted in the work tree: on its way out.
		if info, err := os.Lstat(filepath.Join(root, file)); err == nil && info.Mode().IsRegular() {
			tracked = append(tracked, file)
		}
	}
	if len(tracked) == 0 {
		t.Fatal("git tracks no files")
	}
	return tracked
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTestsSleepByAFakeClock(t *testing.T) {
	for _, file := range files(t) {
		if !strings.HasSuffix(file, "_test.go") || file == "deploy/ci/tree_test.go" {
			continue
		}
		text := read(t, file)
		if bytes.Contains(text, []byte("time.Sleep(")) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
			t.Errorf("%s sleeps by the real clock: wait for the event, or use testing/synctest", file)
		}
	}
}
