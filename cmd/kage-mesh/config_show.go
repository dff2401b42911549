package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) configCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "config",
		Usage: "say what a join here would run with, and where each setting comes from",
		Subcommands: []*cli.Command{subcommand(&cli.Command{
			Name:  "show",
			Usage: "print the settings, as a configuration file",
			Description: "Reads flags, environment and configuration file as 'kage-mesh join' does and\n" +
				"prints what comes out, as YAML that can be such a file. Every flag of join is\n" +
				"taken, too. A flag beats the environment, that beats the file.",
			Flags: append([]cli.Flag{
				jsonFlag(),
				&cli.BoolFlag{Name: "origin", Usage: "where each setting comes from: flag, environment, file and line, or default"},
			}, joinFlags()...),
			Before: applyConfig,
			Action: e.configShow,
		})},
	})
}

func (e environment) configShow(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	settings := settingsOf(c)
	for _, name := range strangeVariables(os.Environ()) {
		fmt.Fprintf(e.stderr, "warning: nothing reads the environment variable %s%s\n", name, didYouMean(name))
	}
	switch {
	case c.Bool("json"):
		return e.writeJSON(map[string]any{"schema_version": 1, "settings": settings})
	case c.Bool("origin"):
		var rows [][]string
		for _, s := range settings {
			rows = append(rows, []string{s.Name, orDash(s.Value), s.Origin})
		}
		return e.table([]string{"SETTING", "VALUE", "FROM"}, rows)
	}
	for _, s := range settings {
		fmt.Fprintln(e.stdout, yamlLine(s))
	}
	return nil
}

// yamlLine is a setting as a line of a configuration file; one that is not set,
// or that a file cannot hold, as a comment.
func yamlLine(s admin.Setting) string {
	switch {
	case s.Name == "config" || s.Name == "key":
		return fmt.Sprintf("# %s: %s", s.Name, s.Value)
	case s.Value == "":
		return "# " + s.Name + ":"
	case strings.Contains(s.Value, ","):
		return fmt.Sprintf("%s: [%s]", s.Name, s.Value)
	case strings.ContainsAny(s.Value, "#{}[]&*!|>%@`\"'") || strings.HasPrefix(s.Value, ":") || strings.Contains(s.Value, ": "):
		return fmt.Sprintf("%s: %q", s.Name, s.Value)
	}
	return s.Name + ": " + s.Value
}

// variables are the environment variables that some flag reads.
func variables() []string {
	known := []string{"KAGE_KEY"}
	var walk func([]*cli.Command)
	walk = func(all []*cli.Command) {
		for _, c := range all {
			for _, f := range c.Flags {
				if d, ok := f.(cli.DocGenerationFlag); ok {
					known = append(known, d.GetEnvVars()...)
				}
			}
			walk(c.Subcommands)
		}
	}
	walk(newApp(environment{}).Commands)
	slices.Sort(known)
	return slices.Compact(known)
}

// strangeVariables are those of environ that look as if they were meant for us
// and are read by nobody: a slip would go unnoticed otherwise.
func strangeVariables(environ []string) (names []string) {
	known := variables()
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "KAGE_") && !strings.HasPrefix(name, "KAGE_TEST_") && !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// didYouMean names the variable that was meant, in words.
func didYouMean(name string) string {
	if near := nearest(name, variables()); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

func sameDuration(a, b string) bool {
	x, err := time.ParseDuration(a)
	y, err2 := time.ParseDuration(b)
	return err == nil && err2 == nil && x == y
}
