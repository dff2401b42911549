package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func (e environment) keygenCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "keygen",
		Usage: "print a new mesh key",
		Description: "With a mesh key the gossip is encrypted and only nodes that have the key can\n" +
			"join. Give it to each node in a file:\n\n" +
			"   umask 077; kage-mesh keygen > mesh.key\n" +
			"   kage-mesh join --key-file mesh.key",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			key := mesh.NewKey()
			fmt.Fprintln(e.stdout, key.String())
			return nil
		},
	})
}
