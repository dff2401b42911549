package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// syncStep is one thing to do, or not to do, so that a node has what others
// have.
type syncStep struct {
	Model  string `json:"model"`
	Node   string `json:"node"`
	Action string `json:"action"` // pull, update or skip
	Size   uint64 `json:"size"`
	Why    string `json:"why,omitempty"` // of a skip
	Error  string `json:"error,omitempty"`
	Done   bool   `json:"done,omitempty"`
}

// diskReserve is what a sync leaves free on a disk, bytes.
const diskReserve = 1 << 30

// planSync lists what targets (nil: all nodes) lack of what any node has, and
// where they have other digests, largest models last: a disk that is too small
// for all takes as many as it can.
func planSync(m admin.Models, targets []string) []syncStep {
	rows := slices.Clone(m.Models)
	slices.SortStableFunc(rows, func(a, b admin.ModelRow) int {
		switch {
		case a.Size < b.Size:
			return -1
		case a.Size > b.Size:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	var steps []syncStep
	for _, n := range m.Nodes {
		if targets != nil && !slices.Contains(targets, n.Name) {
			continue
		}
		disk := n.FreeDisk
		for _, row := range rows {
			spot := row.On[n.Name]
			if row.Cloud || spot.OnDisk && !spot.Differs {
				continue
			}
			s := syncStep{Model: row.Name, Node: n.Name, Action: "pull", Size: row.Size}
			switch {
			case spot.OnDisk && sameWeights(row, spot):
				s.Action, s.Why = "skip", "same weights under another manifest"
			case spot.OnDisk:
				s.Action = "update"
			}
			switch {
			case s.Action == "skip":
			case spot.Fits == hardware.None:
				s.Action, s.Why = "skip", "not enough memory to run it"
			case disk > 0 && disk < row.Size+diskReserve:
				s.Action, s.Why = "skip", hardware.FormatSize(disk)+" of disk left"
			case disk > 0:
				disk -= row.Size
			}
			steps = append(steps, s)
		}
	}
	return steps
}

// sameWeights reports whether a copy that differs has the weights of the newest
// copy all the same, as models have that were created on two nodes.
func sameWeights(row admin.ModelRow, spot admin.ModelSpot) bool {
	for _, other := range row.On {
		if other.OnDisk && other.Digest == row.Digest {
			return other.Weights != "" && other.Weights == spot.Weights
		}
	}
	return false
}

func (e environment) modelsDiff() *cli.Command {
	return subcommand(&cli.Command{
		Name:        "diff",
		Usage:       "say where nodes lack models that others have, or have others by the same name",
		Description: "Exits with 4 when there is a difference that 'models sync' would mend.",
		Flags:       []cli.Flag{apiFlag(), jsonFlag(), targetFlag()},
		Action: func(c *cli.Context) error {
			steps, err := e.plan(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = e.writeJSON(map[string]any{"schema_version": 1, "parity": todo(steps) == 0, "steps": steps})
			} else {
				err = e.printSteps(steps)
			}
			if err == nil && todo(steps) > 0 {
				return &failure{
					code: codeDegraded, cause: fmt.Errorf("the nodes are not at parity: %s to bring", plural(todo(steps), "model")),
					fix: "kage-mesh models sync --dry-run, then without it",
				}
			}
			return err
		},
	})
}

func targetFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "target", Usage: "`NODE` to bring to parity (default: all)"}
}

func todo(steps []syncStep) (n int) {
	for _, s := range steps {
		if s.Action != "skip" {
			n++
		}
	}
	return n
}

func (e environment) plan(c *cli.Context) ([]syncStep, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	m, err := e.models(c)
	if err != nil {
		return nil, err
	}
	targets := c.StringSlice("target")
	for _, t := range targets {
		if !slices.ContainsFunc(m.Nodes, func(n admin.ModelNode) bool { return n.Name == t }) {
			var names []string
			for _, n := range m.Nodes {
				names = append(names, n.Name)
			}
			return nil, usage("nodes with an Ollama are "+strings.Join(names, ", "), "no node '%s'", t)
		}
	}
	return planSync(m, targets), nil
}

func (e environment) printSteps(steps []syncStep) error {
	if len(steps) == 0 {
		fmt.Fprintln(e.stdout, "every node has every model")
		return nil
	}
	var rows [][]string
	for _, s := range steps {
		rows = append(rows, []string{s.Node, s.Model, hardware.FormatSize(s.Size), s.Action, s.Why})
	}
	return e.table([]string{"NODE", "MODEL", "SIZE", "ACTION", "WHY"}, rows)
}

func (e environment) modelsSync() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "sync",
		Usage: "bring nodes the models that others have",
		Description: "Copies over the local network what another node has on its disk. What would not\n" +
			"run on a node, or not fit onto its disk, is left out. It ends with a failure when\n" +
			"a model could not be brought; run again, it goes on where it was.",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(), targetFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"},
		},
		Action: func(c *cli.Context) error {
			steps, err := e.plan(c)
			if err != nil {
				return err
			}
			if !c.Bool("json") {
				if err := e.printSteps(steps); err != nil {
					return err
				}
			}
			failed := 0
			for i := range steps {
				s := &steps[i]
				if s.Action == "skip" || c.Bool("dry-run") || c.Context.Err() != nil {
					continue
				}
				o := pullOrder{model: s.Model, node: s.Node}
				if s.Action == "update" {
					o.source = "peer"
				}
				if r := e.pull(c, o); r.Error != "" {
					s.Error = r.Error
					failed++
					fmt.Fprintf(e.stderr, "%s on %s: %s\n", s.Model, s.Node, r.Error)
				} else {
					s.Done = true
				}
			}
			if c.Bool("json") {
				if err := e.writeJSON(map[string]any{"schema_version": 1, "dry_run": c.Bool("dry-run"), "steps": steps}); err != nil {
					return err
				}
			}
			switch {
			case c.Context.Err() != nil:
				return errors.New("stopped; run it again to go on")
			case failed > 0:
				return &failure{code: codeFailure, cause: fmt.Errorf("%s could not be brought", plural(failed, "model")), fix: "run it again: it goes on where it was"}
			}
			return nil
		},
	})
}
