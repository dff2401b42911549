package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

// named is a mesh with names to offer, and its address.
func named(t *testing.T) string {
	api, _ := meshNow(t,
		meshtest.Member("attic", meshtest.Self(), meshtest.Models("qwen2.5:3b", "qwen2.5:72b", "llama3.2:latest")),
		meshtest.Member("gpu-box", meshtest.Models("qwen2.5:72b", "gpt-oss:20b")),
		meshtest.Member("gpu-old", meshtest.Gone(mesh.Left), meshtest.Models("gone:1b")),
	)
	return strings.TrimPrefix(api, "http://")
}

func TestComplete(t *testing.T) {
	env := map[string]string{"KAGE_API": named(t)}
	for _, tt := range []struct {
		word   string
		before string
		want   string // all offers, or with "..." the first ones
	}{
		{"", "", "join leave drain undrain members ..."},
		{"mem", "", "members"},
		{"nosuch", "", ""},
		{"x", "nosuch", ""},
		{"--j", "members", "--json"},
		{"--wa", "status --check", "--watch"},
		{"-", "leave", "--help --api"},
		{"--prompt", "explain llama3.2", "--prompt-tokens"},
		{"", "explain", "gpt-oss:20b llama3.2 qwen2.5:3b qwen2.5:72b"},
		{"qwen2.5:7", "explain", "qwen2.5:72b"},
		{"", "explain llama3.2", ""},
		{"", "explain --id x", "gpt-oss:20b llama3.2 qwen2.5:3b qwen2.5:72b"},
		{"", "explain --id", ""},
		{"q", "explain --", "qwen2.5:3b qwen2.5:72b"},
		{"", "models", "list pull rm cp diff sync load unload"},
		{"qwen2.5:3", "models load qwen2.5:72b", "qwen2.5:3b"},
		{"", "models pull --node", "attic gpu-box all capable"},
		{"gpu", "models pull x --node", "gpu-box"},
		{"--no", "models pull", "--node"},
		{"", "drain", "attic gpu-box"},
		{"", "drain attic", ""},
		{"gp", "evict", "gpu-box"},
		{"", "join --log-level", "debug info warn error"},
		{"", "join", ""},
		{"", "completion", "bash fish powershell zsh"},
		{"gpu", "drain --api " + env["KAGE_API"], "gpu-box"},
		{"gpu", "drain --api=" + env["KAGE_API"], "gpu-box"},
		{"gpu", "drain --api 127.0.0.1:1", ""},
		{"gpu", "drain --api nonsense", ""},
	} {
		r := run(t, env, append([]string{completeWord, "=" + tt.word}, strings.Fields(tt.before)...)...)
		want, more := strings.CutSuffix(tt.want, "...")
		got, wants := strings.Fields(r.stdout), strings.Fields(want)
		if more {
			got = got[:min(len(got), len(wants))]
		}
		if r.code != 0 || r.stderr != "" || !slices.Equal(got, wants) {
			t.Errorf("%q after %q: %q, want %q; %+v", tt.word, tt.before, got, wants, r)
		}
	}
	if r := run(t, map[string]string{"KAGE_API": "127.0.0.1:1"}, completeWord, "=", "explain"); r != (result{}) {
		t.Errorf("without a node: %+v", r)
	}
	if r := run(t, env, completeWord); r != (result{}) {
		t.Errorf("without a word: %+v", r)
	}
}

// What shells are asked, with the script of each loaded: an offer a line.
var asks = map[string]string{
	"bash": `source "$1"; COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_LINE=$2 COMP_POINT=${#2}; _kage_mesh; printf '%s\n' "${COMPREPLY[@]}"`,
	"zsh": `compdef() { : }; compadd() { print -rl -- "${(@)offers}" }; _files() { : }; source "$1"
		words=("${(@s: :)2}") CURRENT=$#words PREFIX=$words[-1]; _kage_mesh`,
	"fish": `source $argv[1]; complete -C $argv[2]`,
}

// The scripts of the shells get to the program and back, names with a colon
// included.
func TestCompletionScripts(t *testing.T) {
	api := named(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "kage-mesh")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	for shell, ask := range asks {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				need.Missing(t, "completion: needs "+shell+" (make deps installs it on Debian)")
			}
			script := run(t, nil, "completion", shell)
			file := filepath.Join(dir, "script."+shell)
			if err := os.WriteFile(file, []byte(script.stdout), 0o600); err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string]string{
				"kage-mesh memb":                        "members",
				"kage-mesh drain ":                      "attic gpu-box",
				"kage-mesh models pull x --node gpu":    "gpu-box",
				"kage-mesh members --js":                "--json",
				"kage-mesh explain qwen2.5:":            "qwen2.5:3b qwen2.5:72b",
				"kage-mesh explain --id x qwen2.5:7":    "qwen2.5:72b",
				"kage-mesh drain --api 127.0.0.1:1 gpu": "",
			} {
				args := []string{"-c", ask, shell, file, line}
				if shell == "fish" {
					args = []string{"--no-config", "-c", ask, file, line}
				}
				cmd := exec.Command(path, args...)
				cmd.Env = append(os.Environ(), "KAGE_TEST_MAIN=1", "KAGE_API="+api, "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
				var stderr strings.Builder
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil || stderr.Len() > 0 {
					t.Errorf("%s: %v %s", line, err, stderr.String())
				}
				if shell == "bash" { // it has the part up to the last ':' already
					want = strings.ReplaceAll(want, "qwen2.5:", "")
				}
				got := strings.Fields(string(out))
				slices.Sort(got)
				if !slices.Equal(got, strings.Fields(want)) {
					t.Errorf("%q: %q, want %q", line, got, want)
				}
			}
		})
	}
	if script := run(t, nil, "completion", "powershell"); script.code != 0 || !strings.Contains(script.stdout, completeWord) {
		t.Errorf("powershell: %+v", script)
	}
}
