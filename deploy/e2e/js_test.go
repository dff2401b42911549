//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

//go:embed js
var scripts embed.FS

// clients installs the official JavaScript clients and returns their folder.
func clients(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(t, "e2e: the official JavaScript clients need "+tool)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, scripts); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "js")
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		need.Missing(t, "e2e: npm ci of the official clients: "+err.Error()+"\n"+string(out))
	}
	return dir
}

// The official clients see no error and no seam when the node that serves them
// is killed.
func TestOfficialClientsSeeNoSeam(t *testing.T) {
	need.NotShort(t, "hosts with real Ollamas")
	dir := clients(t)
	const tokens = 60
	f := newFleet(t, 3, "mid")
	for _, d := range dialects("mid", tokens) {
		want := f.speak(d, 0, nil)
		if want.err != nil {
			t.Fatal(want.err)
		}
		for _, k := range []int{1, 20, 55} {
			before := f.lost()
			f.hold(k)
			text, end, err := f.script(dir, d, k)
			f.let()
			switch {
			case err != nil:
				t.Errorf("%s killed after %d: %v", d.path, k, err)
			case text != want.text || !end.Done || end.Tokens != want.output || end.Reason != want.reasons[0] || end.IDs != 1:
				t.Errorf("%s killed after %d: %+v, %q, want %q", d.path, k, end, text, want.text)
			}
			// The log comes in pieces, a moment after what it tells of.
			await(t, 5*time.Second, d.path+": a death that the ingress has logged", func() bool { return f.lost() > before })
			f.replace(nil)
		}
	}
}

// lost counts the deaths that the ingress has noticed in the middle of an
// answer.
func (f *fleet) lost() int {
	return strings.Count(f.ingress.Proc.Stderr.String(), "answer broke off")
}

// ending is a line of stream.mjs; of the last one the ending.
type ending struct {
	Node   string
	Text   string
	Done   bool
	Reason string
	Tokens int
	IDs    int
}

// script runs stream.mjs on the ingress's host and kills whoever serves after
// k pieces of text.
func (f *fleet) script(dir string, d dialect, k int) (text string, end ending, err error) {
	request, err := json.Marshal(d.body)
	if err != nil {
		return "", end, err
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := f.ingress.Command(ctx, "node", "stream.mjs", "http://127.0.0.1:11435", d.path, string(request))
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", end, err
	}
	if err := cmd.Start(); err != nil {
		return "", end, err
	}
	pieces, node := 0, ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var line ending
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			f.t.Errorf("line %q: %v", lines.Text(), err)
			continue
		}
		switch {
		case line.Done:
			end = line
			continue
		case line.Node != "":
			node = line.Node
			continue
		}
		text += line.Text
		if pieces++; pieces == k {
			dead := f.named(node)
			dead.kill()
			defer f.reviver.Go(dead.revive)
		}
	}
	err = cmd.Wait()
	if err != nil {
		f.t.Logf("the client said:\n%s", stderr.Bytes())
	}
	return text, end, err
}
