package main

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) statusCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "status",
		Usage: "say whether the mesh is healthy and what it can run",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(), watchFlag(),
			&cli.BoolFlag{Name: "check", Usage: "exit with 4 unless the mesh is HEALTHY"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") {
				if c.Bool("check") {
					return usage("choose one", "--check looks once, --watch until it is stopped")
				}
				return watch(e, c, client, client.Status, environment.printStatus)
			}
			s, err := client.Status(c.Context)
			if err != nil {
				return adminError(err)
			}
			if c.Bool("json") {
				err = e.writeJSON(s)
			} else {
				err = e.printStatus(s)
			}
			if err == nil && c.Bool("check") && s.Health != "HEALTHY" {
				return &failure{code: codeDegraded, cause: errors.New("the mesh is " + s.Health), fix: "see 'kage-mesh members'"}
			}
			return err
		},
	})
}

func (e environment) printStatus(s admin.Status) error {
	p := e.paint(e.stdout)
	fmt.Fprintf(e.stdout, "CLUSTER STATUS: %s (%d/%d nodes online)\n", p.verdict(s.Health), s.Online, s.Total)
	fmt.Fprintf(e.stdout, "72B INFERENCE: %s (%s)\n\n", p.verdict(s.Inference72B), plural(s.Capable72B, "GPU node"))
	names := make([]string, 0, len(s.Nodes))
	for name := range s.Nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	width := 0
	for _, name := range names {
		width = max(width, utf8.RuneCountInString(name))
	}
	for _, name := range names {
		n := s.Nodes[name]
		text, colour := p.mark(n)
		fmt.Fprintf(e.stdout, "%s  %-*s  %-8s  %-10s  72B: %s\n",
			colour(fmt.Sprintf("%-11s", text)), width, name, n.Role, plural(n.ModelCount, "model"), yesNo(n.Capable72B))
	}
	_, err := fmt.Fprintf(e.stdout, "\nendpoint: %s · %s in flight, %d waiting\n", s.LoadBalancer.Endpoint, plural(s.Running, "request"), s.Waiting)
	return err
}

func (p paint) verdict(word string) string {
	switch word {
	case "HEALTHY", "AVAILABLE":
		return p.green(word)
	case "DEGRADED", "PARTIAL":
		return p.yellow(word)
	}
	return p.red(word)
}

// mark is a node's state in words and a sign, with the colour that repeats it.
func (p paint) mark(n admin.NodeStatus) (text string, colour func(string) string) {
	switch {
	case n.Status == "online" && n.Ollama == "":
		return "! NO OLLAMA", p.yellow
	case n.Status == "online":
		return "✓ ONLINE", p.green
	case n.Status == "draining":
		return "! DRAINING", p.yellow
	}
	return "✗ OFFLINE", p.red
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
