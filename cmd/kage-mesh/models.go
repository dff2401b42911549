package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) modelsCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "models",
		Usage: "see, bring and keep models on the nodes of the mesh",
		Description: "Without a subcommand it lists. A change is made by the node on this machine for\n" +
			"the nodes that --node names: a name, several with commas, 'all', or 'capable' for\n" +
			"those whose memory could run the model.",
		Flags: []cli.Flag{apiFlag(), jsonFlag()},
		Subcommands: []*cli.Command{
			e.modelsList(), e.modelsPull(), e.modelsRemove(), e.modelsCopy(),
			e.modelsDiff(), e.modelsSync(), e.modelsLoad(), e.modelsUnload(),
		},
		Action: e.listModels,
	})
}

func nodeFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "node", Usage: "`NODES` " + usage}
}

func (e environment) modelsList() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "list",
		Usage: "list all models, and how each is on each node",
		Description: "A cell says how the model would run on the node (full, tight, partial or cpu),\n" +
			"in parentheses where it is not on the node's disk, with '*' where it is in memory,\n" +
			"'!' where the node has another digest than the newest copy, '-' where the node\n" +
			"has not the memory.",
		Flags:  []cli.Flag{apiFlag(), jsonFlag()},
		Action: e.listModels,
	})
}

func (e environment) listModels(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	m, err := e.models(c)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return e.writeJSON(m)
	}
	header := []string{"MODEL", "SIZE"}
	for _, n := range m.Nodes {
		header = append(header, strings.ToUpper(n.Name))
	}
	var rows [][]string
	differ := 0
	for _, row := range m.Models {
		cells := []string{row.Name, hardware.FormatSize(row.Size)}
		for _, n := range m.Nodes {
			cells = append(cells, cell(row, row.On[n.Name]))
		}
		rows = append(rows, cells)
		if row.Mismatch {
			differ++
		}
	}
	if err := e.table(header, rows); err != nil {
		return err
	}
	if differ > 0 {
		fmt.Fprintf(e.stdout, "\n%s with different digests (!): kage-mesh models diff\n", plural(differ, "model"))
	}
	return nil
}

// models asks the node for the list.
func (e environment) models(c *cli.Context) (admin.Models, error) {
	client, err := adminClient(c)
	if err != nil {
		return admin.Models{}, err
	}
	m, err := client.Models(c.Context)
	return m, adminError(err)
}

// cell is a model on a node in a word.
func cell(row admin.ModelRow, s admin.ModelSpot) string {
	word := s.Fits.String()
	switch {
	case row.Cloud && s.OnDisk:
		return "cloud"
	case row.Cloud:
		return ""
	case s.Fits == hardware.None && !s.OnDisk:
		return "-"
	case s.Fits == hardware.None:
		word = "too big"
	}
	if !s.OnDisk {
		return "(" + word + ")"
	}
	if s.Loaded {
		word += " *"
	}
	if s.Differs {
		word += " !"
	}
	return word
}

// modelNames are a command's arguments: at least one name, no flag among them,
// because flags after a name are not read as flags.
func modelNames(c *cli.Context) ([]string, error) {
	names := c.Args().Slice()
	for _, name := range names {
		if strings.HasPrefix(name, "-") {
			return nil, usage("as in 'kage-mesh models "+c.Command.Name+" --node gpu-box llama3.2'", "put %s before the names of models", name)
		}
	}
	if len(names) == 0 {
		return nil, usage("as in 'kage-mesh models "+c.Command.Name+" llama3.2'", "%s needs the name of a model", c.Command.Name)
	}
	return names, nil
}
