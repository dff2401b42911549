package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/survey"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) benchCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:      "bench",
		Usage:     "measure the models of this mesh, node by node",
		ArgsUsage: "[MODEL...]",
		Description: "Asks every node for a few answers of every model that it has, or of each MODEL, and\n" +
			"prints how long it takes to load and to begin, how fast it reads and writes, and what\n" +
			"several requests at once gain, as a Markdown table or JSON. Models are loaded for it.\n" +
			"What the nodes measure meanwhile guides placement, as with every other answer.",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(),
			&cli.StringSliceFlag{Name: "node", Usage: "only this `NODE`; may be given several times"},
			&cli.IntFlag{Name: "tokens", Value: 64, Usage: "length of an answer"},
			&cli.IntFlag{Name: "prompt", Value: 256, Usage: "words of a prompt"},
			&cli.IntFlag{Name: "at-once", Value: 4, Usage: "requests at once for the speed-up; 1 leaves it out"},
		},
		Action: e.bench,
	})
}

// benchDoc is the JSON that bench prints.
type benchDoc struct {
	SchemaVersion int             `json:"schema_version"`
	Timestamp     time.Time       `json:"timestamp"`
	Cluster       string          `json:"cluster"`
	Results       []survey.Result `json:"results"`
}

func (e environment) bench(c *cli.Context) error {
	for _, name := range []string{"tokens", "prompt", "at-once"} {
		if n := c.Int(name); n < 1 || n > 100_000 {
			return usage("give a number from 1 to 100000", "bad --%s %d", name, n)
		}
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	models, err := client.Models(c.Context)
	if err != nil {
		return adminError(err)
	}
	targets, err := benchTargets(models, c.Args().Slice(), c.StringSlice("node"))
	if err != nil {
		return err
	}
	results, err := survey.Run(c.Context, survey.Plan{
		API: client.Base, Targets: targets, Tokens: c.Int("tokens"), Prompt: c.Int("prompt"), Parallel: c.Int("at-once"),
		Each: func(i int, t survey.Target, r *survey.Result) {
			switch {
			case r == nil:
				fmt.Fprintf(e.stderr, "[%d/%d] %s on %s ...\n", i+1, len(targets), t.Model, t.Node)
			case r.Error != "":
				fmt.Fprintf(e.stderr, "[%d/%d] failed: %s\n", i+1, len(targets), r.Error)
			default:
				fmt.Fprintf(e.stderr, "[%d/%d] %.1f tokens a second\n", i+1, len(targets), r.Decode)
			}
		},
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return e.writeJSON(benchDoc{
			SchemaVersion: admin.SchemaVersion, Timestamp: time.Now().UTC(), Cluster: models.Cluster, Results: results,
		})
	}
	survey.Markdown(e.stdout, results)
	return nil
}

// benchTargets are the models that can be measured, each on the nodes that have
// it on their disk and can hold it.
func benchTargets(m admin.Models, names, nodes []string) (targets []survey.Target, err error) {
	for _, node := range nodes {
		if !slices.ContainsFunc(m.Nodes, func(n admin.ModelNode) bool { return n.Name == node }) {
			return nil, usage("see 'kage-mesh members'", "no node '%s' with an Ollama", node)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(m.Models, func(r admin.ModelRow) bool { return r.Name == name || r.Key == name }) {
			return nil, usage("see 'kage-mesh models'", "no node has the model '%s'", name)
		}
	}
	for _, row := range m.Models {
		wanted := len(names) == 0 || slices.Contains(names, row.Name) || slices.Contains(names, row.Key)
		if row.Cloud || row.Embeds || !wanted {
			continue
		}
		for _, n := range m.Nodes {
			spot := row.On[n.Name]
			if spot.OnDisk && spot.Fits != 0 && (len(nodes) == 0 || slices.Contains(nodes, n.Name)) {
				targets = append(targets, survey.Target{Node: n.Name, Model: row.Name})
			}
		}
	}
	if len(targets) == 0 {
		return nil, usage("see 'kage-mesh models'", "there is nothing to measure: no node holds a model that writes text")
	}
	return targets, nil
}
