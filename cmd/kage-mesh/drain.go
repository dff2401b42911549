package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) drainCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:      "drain",
		Usage:     "give a node no new work; what it runs is finished",
		ArgsUsage: "[NODE]",
		Description: "Without NODE it is this machine's node. The whole mesh stops sending it work within\n" +
			"a second, and what waits for it moves to other nodes. The node stays a member and\n" +
			"its own port still answers, by other nodes. 'kage-mesh undrain' or a restart of the\n" +
			"node takes it back.\n\n" +
			"  kage-mesh drain --now && systemctl stop ollama     the GPU is needed at once\n" +
			"  kage-mesh drain --wait 10m && reboot               all answers end first",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "now", Usage: "do not finish what it runs: other nodes take it on where they can"},
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `DURATION` until nothing runs there"},
			apiFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return e.drain(c, true) },
	})
}

func (e environment) undrainCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name: "undrain", Usage: "give a drained node work again", ArgsUsage: "[NODE]",
		Flags:  []cli.Flag{apiFlag(), jsonFlag()},
		Action: func(c *cli.Context) error { return e.drain(c, false) },
	})
}

func (e environment) drain(c *cli.Context, on bool) error {
	if c.Args().Len() > 1 {
		return usage(fmt.Sprintf("see 'kage-mesh %s --help'", c.Command.Name), "%s takes one node, got %d", c.Command.Name, c.Args().Len())
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	d, err := client.Drain(c.Context, c.Args().First(), admin.DrainOrder{On: on, Now: c.Bool("now")})
	if err != nil {
		return drainError(err)
	}
	if limit := c.Duration("wait"); limit > 0 && d.Running+d.Waiting > 0 {
		if d, err = awaitIdle(c.Context, client, d, limit); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return e.writeJSON(d)
	}
	e.printDrained(d)
	return nil
}

func drainError(err error) error {
	if strings.Contains(err.Error(), "no member") {
		return &failure{code: codeFailure, cause: err, fix: "see 'kage-mesh members' for the names"}
	}
	return adminError(err)
}

// awaitIdle waits until nothing runs on the drained node, as the asked one sees it.
func awaitIdle(ctx context.Context, client admin.Client, d admin.Drained, limit time.Duration) (admin.Drained, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for d.Running+d.Waiting > 0 {
		select {
		case <-ctx.Done():
			return d, &failure{
				code: codeFailure, cause: fmt.Errorf("%s still runs %d requests", d.Node, d.Running),
				fix: "wait longer with --wait, or hand them over to other nodes with --now",
			}
		case <-tick.C:
		}
		m, err := client.Members(ctx)
		if err != nil {
			continue // the time limit ends this
		}
		for _, n := range m.Members {
			if n.ID == d.ID {
				d.Running, d.Waiting = n.Running, n.Waiting
			}
		}
	}
	return d, nil
}

func (e environment) printDrained(d admin.Drained) {
	switch {
	case !d.Draining:
		fmt.Fprintf(e.stdout, "%s takes work again\n", d.Node)
	case d.Running > 0:
		fmt.Fprintf(e.stdout, "%s takes no new work; it still runs %d\n", d.Node, d.Running)
	default:
		fmt.Fprintf(e.stdout, "%s takes no new work and runs nothing\n", d.Node)
	}
	if len(d.Nowhere) > 0 {
		fmt.Fprintf(e.stderr, "no other node can serve meanwhile: %s\n", strings.Join(d.Nowhere, ", "))
	}
}
