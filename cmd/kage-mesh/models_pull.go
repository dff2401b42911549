package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/urfave/cli/v2"
)

func (e environment) modelsPull() *cli.Command {
	return subcommand(&cli.Command{
		Name:      "pull",
		Usage:     "bring models to a node, from another node's disk where one has them",
		ArgsUsage: "MODEL...",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(),
			nodeFlag("to bring them to (default: the one where they run best)"),
			&cli.StringFlag{Name: "source", Usage: "registry: from the internet even where a node has the model; peer: from another node also what is there"},
			&cli.BoolFlag{Name: "insecure", Usage: "from a registry without TLS"},
		},
		Action: func(c *cli.Context) error {
			names, err := modelNames(c)
			if err != nil {
				return err
			}
			if s := c.String("source"); s != "" && s != "registry" && s != "peer" {
				return usage("use registry or peer", "bad source '%s'", s)
			}
			var results []pullResult
			var failed error
			for _, name := range names {
				r := e.pull(c, pullOrder{name, c.String("node"), c.String("source"), c.Bool("insecure")})
				results = append(results, r)
				if r.Error != "" {
					failed = fmt.Errorf("%s: %s", name, r.Error)
				}
				if c.Context.Err() != nil {
					break
				}
			}
			if c.Bool("json") {
				if err := e.writeJSON(map[string]any{"schema_version": 1, "pulls": results}); err != nil {
					return err
				}
			}
			return failed
		},
	})
}

// pullOrder says what to pull.
type pullOrder struct {
	model, node, source string
	insecure            bool
}

// pullResult is what became of a pull.
type pullResult struct {
	Model string `json:"model"`
	Node  string `json:"node"` // who did it, or who was asked to
	Error string `json:"error,omitempty"`
}

// pullLine is one line of progress.
type pullLine struct {
	Status    string `json:"status"`
	Digest    string `json:"digest"`
	Total     int64  `json:"total"`
	Completed int64  `json:"completed"`
	Error     string `json:"error"`
	Nodes     []struct {
		Node      string `json:"node"`
		Status    string `json:"status"`
		Completed int64  `json:"completed"`
		Total     int64  `json:"total"`
		Error     string `json:"error"`
	} `json:"nodes"`
}

// pull pulls one model and shows how far it is on standard error.
func (e environment) pull(c *cli.Context, o pullOrder) pullResult {
	result := pullResult{Model: o.model, Node: o.node}
	client, err := adminClient(c)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	path := "/api/pull"
	if o.source != "" {
		path += "?source=" + url.QueryEscape(o.source)
	}
	bars := e.newBars(o.model)
	defer bars.end()
	last := pullLine{}
	body := map[string]any{"model": o.model, "insecure": o.insecure}
	by, err := endpoint{client.Base}.call(c.Context, "POST", path, o.node, body, func(text []byte) error {
		last = pullLine{}
		if err := json.Unmarshal(text, &last); err != nil {
			return fmt.Errorf("the node's progress cannot be read: %w", err)
		}
		bars.show(last)
		return nil
	})
	if by != "" {
		result.Node = by
	}
	switch {
	case errors.Is(err, context.Canceled):
		result.Error = "stopped; the next pull goes on from here"
	case err != nil:
		result.Error = err.Error()
	case last.Error != "":
		result.Error = last.Error
	case last.Status != "success":
		result.Error = "the pull ended without a result"
	}
	return result
}
