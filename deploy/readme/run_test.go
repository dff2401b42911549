//go:build linux

package readme

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

const (
	insideVar  = "KAGE_README_INSIDE" // the machine's directory, set for the test inside of it
	blockLimit = 2 * time.Minute
)

// What every block of shell says can be typed, and does not fail. The machine
// is a network namespace: the default ports are free there and nothing is
// reached.
func TestEveryBlockRuns(t *testing.T) {
	if dir := os.Getenv(insideVar); dir != "" {
		inside(t, dir)
		return
	}
	need.NotShort(t, "builds the program and runs a machine")
	unshare, err := exec.LookPath("unshare")
	if err != nil || os.Geteuid() != 0 {
		need.Missing(t, "readme: needs root and unshare of util-linux")
	}
	dir := t.TempDir()
	machine(t, dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), unshare, "--net", "--", self, "-test.run=^TestEveryBlockRuns$", "-test.v", "-test.timeout=9m")
	cmd.Env = append(os.Environ(), insideVar+"="+dir)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// machine fills a directory with a home and the commands that are not what they
// are elsewhere.
func machine(t *testing.T, dir string) {
	t.Helper()
	built := filepath.Join(dir, "built")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", built, root+"/cmd/kage-mesh").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	repository, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	ollama := realollama.Binary(t, "")
	for _, d := range []string{"bin", "home/go/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range map[string]string{
		// What a target would do; CI runs the targets themselves.
		"make": `exec /usr/bin/make --no-print-directory -n -C "` + repository + `" "$@" >/dev/null`,
		"curl": `exec /usr/bin/curl --silent --show-error --fail "$@"`, // an error's answer is no success
		// The module of this tree in place of the newest release.
		"go": `[ "$*" = "install github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh@latest" ] || { echo "go $*: not expected"; exit 1; }
cp "` + dir + `/bin/node" "$HOME/go/bin/kage-mesh"`,
		"ollama": `exec "` + ollama + `" "$@"`,
		// join runs until it is stopped: here in another terminal. A node that
		// runs is stopped first, as somebody would who starts it otherwise.
		"node": `set -e
node=` + dir + `/built
if [ "$1" != join ]; then exec "$node" "$@"; fi
if [ -e "$HOME/pid" ]; then
  "$node" leave 2>/dev/null || true
  for _ in $(seq 300); do [ -e "/proc/$(cat "$HOME/pid")/exe" ] || break; sleep 0.1; done
fi
"$node" "$@" >"$HOME/join.out" 2>"$HOME/join.log" </dev/null &
echo $! >"$HOME/pid"
for _ in $(seq 300); do "$node" models list 2>/dev/null | grep -q qwen2.5:72b && exit 0; sleep 0.1; done
cat "$HOME/join.out" "$HOME/join.log" >&2
exit 1`,
	} {
		text := "#!/usr/bin/env bash\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// inside is the test on its machine.
func inside(t *testing.T, dir string) {
	for _, line := range []string{
		"link set lo up", "link add lan0 type veth peer name lan1", "addr add 192.168.7.2/24 dev lan0",
		"link set lan0 up", "link set lan1 up", "route add default dev lan0",
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	ollama := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{
		{Name: "qwen2.5:72b", Size: 1 << 20, Decode: 400}, {Name: "llama3.2", Size: 1 << 20, Decode: 400},
	}})
	l, err := net.Listen("tcp", "127.0.0.1:11434")
	if err != nil {
		t.Fatal(err)
	}
	ollama.Start(l)
	defer ollama.Close()
	home := filepath.Join(dir, "home")
	env := []string{
		"HOME=" + home, "LANG=C.UTF-8", "TERM=dumb",
		"PATH=" + filepath.Join(home, "go/bin") + ":" + filepath.Join(dir, "bin") + ":/usr/bin:/bin:/usr/sbin:/sbin",
	}
	shell := func(script string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), blockLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
		cmd.Env, cmd.Dir, cmd.Stdin = env, home, strings.NewReader("hi\n")
		cmd.WaitDelay = time.Second // the node keeps nothing of ours open, but be sure
		return cmd.CombinedOutput()
	}
	defer func() { _, _ = shell("kage-mesh leave") }()
	ran := 0
	for _, b := range documents(t) {
		if b.language != "sh" && b.language != "bash" {
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			start := time.Now()
			out, err := shell(tolerant(b.text))
			t.Logf("%.1f s: %s\n%s", time.Since(start).Seconds(), strings.TrimSpace(b.text), tail(string(out)))
			if err != nil {
				t.Errorf("%v", err)
			}
		})
		ran++
	}
	t.Logf("%d blocks ran", ran)
	if ran < 10 {
		t.Errorf("only %d blocks", ran)
	}
}

// tolerant lets doctor warn, of a node that is alone and has no key.
func tolerant(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "kage-mesh doctor") {
			line += " || [ $? = 4 ]"
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// tail is the end of what a block said.
func tail(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
