package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// newApp is the command table.
func newApp(e environment) *cli.App {
	return &cli.App{
		Name:      "kage-mesh",
		Usage:     "the Ollamas of several machines as one endpoint",
		UsageText: "kage-mesh join                  on each machine, beside its Ollama\nOLLAMA_HOST=127.0.0.1:11435 ollama run llama3.2",
		Version:   build().Version,
		Commands: []*cli.Command{
			e.joinCommand(), e.leaveCommand(), e.drainCommand(), e.undrainCommand(),
			e.membersCommand(), e.statusCommand(), e.topCommand(), e.doctorCommand(),
			e.modelsCommand(), e.explainCommand(),
			e.keygenCommand(), e.keysCommand(), e.evictCommand(), e.trustCommand(),
			e.apikeysCommand(), e.demoCommand(), e.benchCommand(),
			e.configCommand(), e.serviceCommand(), e.mcpCommand(),
			e.versionCommand(), e.completionCommand(), e.manCommand(),
		},
		HideVersion:            true, // `kage-mesh version` says more
		Suggest:                true,
		UseShortOptionHandling: true,
		Reader:                 e.stdin,
		Writer:                 e.stdout,
		ErrWriter:              e.stderr,
		ExitErrHandler:         func(*cli.Context, error) {}, // main decides
		OnUsageError:           usageError,
		CommandNotFound: func(c *cli.Context, name string) {
			c.App.Metadata["error"] = unknownCommand(c, name)
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: cli.AppHelpTemplate + "\n" + exitCodes,
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	fix := "see 'kage-mesh --help'"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "kage-mesh" {
		fix = fmt.Sprintf("see 'kage-mesh %s --help'", c.Command.Name)
		if near := nearFlag(c, err); near != "" {
			fix = fmt.Sprintf("did you mean --%s? %s", near, fix)
		}
	}
	return usage(fix, "%w", err)
}

// nearFlag suggests the flag that was meant by one that is not defined.
func nearFlag(c *cli.Context, err error) string {
	_, name, ok := strings.Cut(err.Error(), "flag provided but not defined: -")
	if !ok {
		return ""
	}
	var names []string
	for _, f := range c.Command.Flags {
		names = append(names, f.Names()[0])
	}
	return nearest(name, names)
}

func unknownCommand(c *cli.Context, name string) error {
	var names []string
	for _, cmd := range c.App.VisibleCommands() {
		names = append(names, cmd.Name)
	}
	fix := "see 'kage-mesh --help'"
	if near := nearest(name, names); near != "" {
		fix = fmt.Sprintf("did you mean '%s'? %s", near, fix)
	}
	return usage(fix, "no command '%s'", name)
}

// nearest is the name within two edits of word, or "".
func nearest(word string, names []string) string {
	best, found := 3, ""
	for _, name := range names {
		if d := distance(word, name); d < best {
			best, found = d, name
		}
	}
	return found
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// subcommand fills in what all commands share.
func subcommand(c *cli.Command) *cli.Command {
	c.OnUsageError = usageError
	return c
}

// noArguments refuses arguments of a command that takes none.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usage(fmt.Sprintf("see 'kage-mesh %s --help'", c.Command.Name),
			"%s takes no argument, got '%s'", c.Command.Name, c.Args().First())
	}
	return nil
}
