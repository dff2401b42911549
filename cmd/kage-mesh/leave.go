package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func (e environment) leaveCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "leave",
		Usage: "stop this machine's node: it finishes what it runs, says goodbye and exits",
		Flags: []cli.Flag{apiFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			if err := client.Leave(c.Context); err != nil {
				return adminError(err)
			}
			fmt.Fprintln(e.stderr, "the node leaves the mesh; what it runs is finished first")
			return nil
		},
	})
}
