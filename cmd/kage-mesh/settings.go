package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// applyConfig fills in the flags that neither the command line nor the
// environment set from the configuration file, if there is one.
func applyConfig(c *cli.Context) error {
	path, data, err := readConfig(c.String("config"))
	if err != nil || data == nil {
		return err
	}
	entries, err := parseConfig(path, data, settingNames(c))
	if err != nil {
		return err
	}
	origins := map[string]string{}
	for _, e := range entries {
		if c.IsSet(e.name) {
			continue
		}
		for _, value := range e.values {
			if err := c.Set(e.name, value); err != nil {
				return usage("see 'kage-mesh join --help'", "%s:%d: bad value for '%s': %w", path, e.line, e.name, err)
			}
		}
		origins[e.name] = fmt.Sprintf("%s:%d", path, e.line)
	}
	c.App.Metadata[originsKey], c.App.Metadata[fileKey] = origins, path
	return nil
}

// Where applyConfig notes which settings the file made, and which file it was.
const (
	originsKey = "origins"
	fileKey    = "config"
)

// settingNames are the names that a configuration file may hold: the flags of
// join.
func settingNames(*cli.Context) (names []string) {
	for _, f := range joinFlags() {
		if name := f.Names()[0]; name != "config" {
			names = append(names, name)
		}
	}
	return names
}

// configEntry is one setting of a configuration file.
type configEntry struct {
	name   string
	values []string // one, or the items of a list
	line   int
}

// parseConfig reads a configuration file: a YAML mapping of names to scalars or
// lists of them. A name without a value is left at its default.
func parseConfig(path string, data []byte, known []string) ([]configEntry, error) {
	const fix = "it holds lines such as 'name: gpu-box'"
	var doc yaml.Node
	if err := yaml.NewDecoder(strings.NewReader(string(data))).Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // nothing but comments
	} else if err != nil {
		return nil, usage(fix, "cannot read %s: %w", path, err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, usage(fix, "%s:%d: not a list of settings", path, root.Line)
	}
	var entries []configEntry
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		e := configEntry{name: key.Value, line: key.Line}
		switch {
		case !slices.Contains(known, e.name):
			fix := "known settings are the flags of 'kage-mesh join --help'"
			if near := nearest(e.name, known); near != "" {
				fix = "did you mean '" + near + "'? " + fix
			}
			return nil, usage(fix, "%s:%d: unknown setting '%s'", path, e.line, e.name)
		case slices.ContainsFunc(entries, func(o configEntry) bool { return o.name == e.name }):
			return nil, usage("keep one of the two", "%s:%d: '%s' stands there twice", path, e.line, e.name)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			continue
		}
		var err error
		if e.values, err = scalars(value); err != nil {
			return nil, usage("give it as in 'seed: [192.168.1.20]'", "%s:%d: bad value for '%s': %w", path, e.line, e.name, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// scalars are a setting's values: one, or the items of a list.
func scalars(n *yaml.Node) ([]string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		var out []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("its items must be plain values")
			}
			out = append(out, item.Value)
		}
		return out, nil
	}
	return nil, errors.New("it holds settings of its own")
}

// settingsOf lists every setting of a join, with where it comes from, sorted by
// name. Call it after applyConfig.
func settingsOf(c *cli.Context) []admin.Setting {
	fromFile, _ := c.App.Metadata[originsKey].(map[string]string)
	path, _ := c.App.Metadata[fileKey].(string)
	var out []admin.Setting
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if name != "config" && !slices.Contains(settingNames(c), name) {
			continue
		}
		s := admin.Setting{Name: name, Value: valueOf(c, f), Origin: "default"}
		switch {
		case name == "config" && s.Value == "" && path != "":
			s.Value, s.Origin = path, "found there"
		case fromFile[name] != "":
			s.Origin = fromFile[name]
		case c.IsSet(name):
			s.Origin = "flag"
			if d, ok := f.(cli.DocGenerationFlag); ok {
				s.Origin = flagOrEnv(d, s.Value)
			}
		}
		out = append(out, s)
	}
	if os.Getenv("KAGE_KEY") != "" {
		out = append(out, admin.Setting{Name: "key", Value: "(set)", Origin: "environment KAGE_KEY"})
	}
	slices.SortFunc(out, func(a, b admin.Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// flagOrEnv says which of the two set a flag: the library keeps only the value.
// Where both say the same, the environment is named.
func flagOrEnv(f cli.DocGenerationFlag, value string) string {
	for _, env := range f.GetEnvVars() {
		text, ok := os.LookupEnv(env)
		if !ok {
			continue
		}
		trimmed := strings.ReplaceAll(strings.TrimSpace(text), ", ", ",")
		if value == trimmed || !strings.ContainsAny(value, ",") && sameValue(value, trimmed) {
			return "environment " + env
		}
	}
	return "flag"
}

// sameValue compares two texts of a setting: true and 1, 90s and 1m30s are the
// same.
func sameValue(a, b string) bool {
	for _, pair := range [][2]string{{"true", "1"}, {"true", "t"}, {"false", "0"}, {"false", "f"}} {
		if a == pair[0] && strings.EqualFold(b, pair[1]) {
			return true
		}
	}
	return strings.EqualFold(a, b) || sameDuration(a, b)
}

func valueOf(c *cli.Context, f cli.Flag) string {
	name := f.Names()[0]
	switch f.(type) {
	case *cli.StringSliceFlag:
		return strings.Join(c.StringSlice(name), ",")
	case *cli.DurationFlag:
		return c.Duration(name).String()
	}
	return fmt.Sprint(c.Value(name))
}
