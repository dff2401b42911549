package main

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself what may come next, see completeWord, so
// that they never go stale.
var (
	//go:embed completion/bash.sh
	bashCompletion string
	//go:embed completion/zsh.sh
	zshCompletion string
	//go:embed completion/fish.fish
	fishCompletion string
	//go:embed completion/powershell.ps1
	powershellCompletion string
)

func (e environment) completionCommand() *cli.Command {
	scripts := map[string]string{
		"bash": bashCompletion, "zsh": zshCompletion,
		"fish": fishCompletion, "powershell": powershellCompletion,
	}
	shells := slices.Sorted(maps.Keys(scripts))
	return subcommand(&cli.Command{
		Name:      "completion",
		Usage:     "print the completion script for a shell",
		ArgsUsage: strings.Join(shells, "|"),
		Description: "bash:        source <(kage-mesh completion bash)\n" +
			"zsh:         source <(kage-mesh completion zsh)\n" +
			"fish:        kage-mesh completion fish > ~/.config/fish/completions/kage-mesh.fish\n" +
			"powershell:  kage-mesh completion powershell | Out-String | Invoke-Expression",
		Action: func(c *cli.Context) error {
			script, ok := scripts[c.Args().First()]
			if !ok || c.NArg() != 1 {
				return usage("name one shell: "+strings.Join(shells, ", "), "completion wants a shell, got '%s'",
					strings.Join(c.Args().Slice(), " "))
			}
			fmt.Fprint(e.stdout, script)
			return nil
		},
	})
}
