package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

const deployDir = "../../deploy"

// deployed lists the files below deploy whose names match one of the patterns.
func deployed(t *testing.T, patterns ...string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(deployDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, p := range patterns {
			if ok, _ := filepath.Match(p, d.Name()); ok {
				files = append(files, filepath.ToSlash(path))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// commandLine finds kage-mesh in a line of a shell, with what it is given.
var commandLine = regexp.MustCompile(`(?:^|[\s"'(` + "`" + `/])kage-mesh ([a-z][^|>&;#\\` + "`" + `)]*)`)

// commandLines are the kage-mesh command lines in a text's code: fenced blocks
// of shells and inline code of Markdown, or any line of other files.
func commandLines(name, text string) (lines []string) {
	markdown := strings.HasSuffix(name, ".md")
	fence := ""
	inline := regexp.MustCompile("`([^`]+)`")
	for scan := bufio.NewScanner(strings.NewReader(text)); scan.Scan(); {
		line := scan.Text()
		if kind, ok := strings.CutPrefix(strings.TrimSpace(line), "```"); ok {
			if fence == "" {
				fence = "```" + kind
			} else {
				fence = ""
			}
			continue
		}
		var code []string
		switch {
		case !markdown && strings.HasPrefix(line, "#"):
		case !markdown, fence == "```", fence == "```sh", fence == "```bash", fence == "```console", fence == "```powershell":
			code = []string{line}
		case fence == "":
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				code = append(code, m[1])
			}
		}
		for _, c := range code {
			for _, m := range commandLine.FindAllStringSubmatch(c, -1) {
				lines = append(lines, strings.TrimSpace(m[1]))
			}
		}
	}
	return lines
}

// parses reports whether the program takes a command line, without running it.
func parses(line string) error {
	var args []string
	for word := range strings.FieldsSeq(line) {
		args = append(args, strings.Trim(word, `"'`))
	}
	e := environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }}
	app := newApp(e)
	var tame func([]*cli.Command)
	tame = func(all []*cli.Command) {
		for _, c := range all {
			if len(c.Subcommands) == 0 {
				c.Before, c.Action = nil, func(*cli.Context) error { return nil }
			}
			tame(c.Subcommands)
		}
	}
	tame(app.Commands)
	app.CommandNotFound = nil
	return app.Run(append([]string{"kage-mesh"}, args...))
}

// Every command line that the README, the plugin, the guides, the packages' own
// notes and the units show is one that the program takes. What the blocks of the
// README and the plugin say is run as well, in deploy/readme.
func TestShownCommandLinesParse(t *testing.T) {
	files := deployed(t, "*.md", "*.service", "*.conf", "*.plist")
	files = append(files, filepath.ToSlash(deployDir)+"/package/postinstall.sh", "../../README.md")
	for _, pattern := range []string{"../../*/*.md", "../../*/*/*.md"} {
		notes, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, notes...)
	}
	seen := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(name, string(text)) {
			if line == "node" || strings.HasPrefix(line, "node ") {
				continue // the text of an error
			}
			seen++
			if err := parses(line); err != nil {
				t.Errorf("%s: 'kage-mesh %s': %v", strings.TrimPrefix(name, deployDir+"/"), line, err)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d command lines found", seen)
	}
}

func TestCommandLines(t *testing.T) {
	text := "See `kage-mesh status` and `OLLAMA_HOST=x ollama run y`.\n```bash\nsudo kage-mesh join 10.0.0.1 # here\nkage-mesh members | head\n```\n" +
		"```yaml\n# kage-mesh nonsense\n```\nkage-mesh is good\n"
	got := commandLines("x.md", text)
	if want := []string{"status", "join 10.0.0.1", "members"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for line, ok := range map[string]bool{
		"members --json": true, "members --jsn": false, "nonsense": false, "service install --user": true, "service instal": false,
	} {
		if err := parses(line); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Every KAGE_ variable that a file below deploy sets is one that a flag reads.
func TestSetVariablesExist(t *testing.T) {
	known := []string{"KAGE_KEY"}
	for _, c := range newApp(environment{}).Commands {
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok {
				known = append(known, d.GetEnvVars()...)
			}
		}
	}
	variable := regexp.MustCompile(`\bKAGE_[A-Z_]+\b`)
	for _, name := range deployed(t, "*.yaml", "*.service", "*.conf", "Dockerfile", "*.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range variable.FindAllString(string(text), -1) {
			if !slices.Contains(known, v) && v != "KAGE_SCREENSHOTS" && v != "KAGE_BIN" {
				t.Errorf("%s: no flag reads %s", name, v)
			}
		}
	}
}

func TestYAMLOfDeployIsRead(t *testing.T) {
	files := append(deployed(t, "*.yaml", "*.yml"), "../../.goreleaser.yaml")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var v any
			err := d.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// The plugin has the form that Claude Code reads today.
func TestClaudePlugin(t *testing.T) {
	plugin := deployDir + "/claude-plugin/"
	var manifest struct{ Name, Version, Description string }
	readJSON(t, plugin+".claude-plugin/plugin.json", &manifest)
	if manifest.Name != "kage-mesh" || manifest.Version == "" || manifest.Description == "" {
		t.Errorf("%+v", manifest)
	}
	var market struct {
		Name    string
		Plugins []struct{ Name, Source string }
	}
	readJSON(t, "../../.claude-plugin/marketplace.json", &market)
	if len(market.Plugins) != 1 || market.Plugins[0].Name != manifest.Name {
		t.Fatalf("%+v", market)
	}
	if _, err := os.Stat("../../" + market.Plugins[0].Source + "/.claude-plugin/plugin.json"); err != nil {
		t.Error(err)
	}
	var servers struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		}
	}
	readJSON(t, plugin+".mcp.json", &servers)
	if s := servers.MCPServers["kage-mesh"]; s.Command != "kage-mesh" || parses(strings.Join(s.Args, " ")) != nil {
		t.Errorf("%+v", servers)
	}
	fields := []string{"name", "description", "argument-hint", "allowed-tools", "disable-model-invocation", "user-invocable"}
	for _, name := range []string{"infra-nodes", "infra-test", "infra-sync", "infra-overview"} {
		text, err := os.ReadFile(plugin + "skills/" + name + "/SKILL.md")
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.SplitN(string(text), "---\n", 3)
		var front map[string]any
		if len(parts) != 3 || parts[0] != "" || yaml.Unmarshal([]byte(parts[1]), &front) != nil {
			t.Fatalf("%s: no front matter", name)
		}
		if front["name"] != name || front["description"] == "" {
			t.Errorf("%s: %v", name, front)
		}
		for key := range front {
			if !slices.Contains(fields, key) {
				t.Errorf("%s: unknown field %s", name, key)
			}
		}
		// What it may run without asking are commands of ours.
		tools, _ := front["allowed-tools"].(string)
		for _, m := range regexp.MustCompile(`Bash\(([^:)]*):\*\)`).FindAllStringSubmatch(tools, -1) {
			command, ok := strings.CutPrefix(m[1], "kage-mesh ")
			if !ok || newApp(environment{}).Command(command) == nil {
				t.Errorf("%s: may run %q, which is no command of ours", name, m[1])
			}
		}
	}
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
