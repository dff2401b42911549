package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// change is the outcome of a small change, for --json.
type change struct {
	Model string `json:"model"`
	Node  string `json:"node"`
	Error string `json:"error,omitempty"`
}

// finish prints changes and returns the first failure.
func (e environment) finish(c *cli.Context, done string, changes []change) error {
	var failed error
	for _, ch := range changes {
		switch {
		case ch.Error != "" && failed == nil:
			failed = fmt.Errorf("%s: %s", ch.Model, ch.Error)
		case ch.Error == "" && !c.Bool("json"):
			where := ""
			if ch.Node != "" {
				where = " on " + strings.ReplaceAll(ch.Node, ",", ", ")
			}
			fmt.Fprintf(e.stdout, "%s %s%s\n", done, ch.Model, where)
		}
	}
	if c.Bool("json") {
		if err := e.writeJSON(map[string]any{"schema_version": 1, "changes": changes}); err != nil {
			return err
		}
	}
	return failed
}

func (e environment) modelsRemove() *cli.Command {
	return subcommand(&cli.Command{
		Name: "rm", Usage: "delete models", ArgsUsage: "MODEL...",
		Flags: []cli.Flag{apiFlag(), jsonFlag(), nodeFlag("to delete them on (default: all that have them)")},
		Action: func(c *cli.Context) error {
			names, err := modelNames(c)
			if err != nil {
				return err
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			var changes []change
			for _, name := range names {
				by, err := endpoint{client.Base}.call(c.Context, "DELETE", "/api/delete", c.String("node"), map[string]string{"model": name}, nil)
				changes = append(changes, changeOf(name, by, err))
			}
			return e.finish(c, "deleted", changes)
		},
	})
}

func (e environment) modelsCopy() *cli.Command {
	return subcommand(&cli.Command{
		Name: "cp", Usage: "give a model a second name", ArgsUsage: "MODEL NEW-NAME",
		Flags: []cli.Flag{apiFlag(), jsonFlag(), nodeFlag("to do it on (default: all that have it)")},
		Action: func(c *cli.Context) error {
			if names, err := modelNames(c); err != nil {
				return err
			} else if len(names) != 2 {
				return usage("as in 'kage-mesh models cp llama3.2 mine'", "cp needs a model and a new name")
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			from, to := c.Args().Get(0), c.Args().Get(1)
			by, err := endpoint{client.Base}.call(c.Context, "POST", "/api/copy", c.String("node"), map[string]string{"source": from, "destination": to}, nil)
			return e.finish(c, "copied "+from+" to", []change{changeOf(to, by, err)})
		},
	})
}

func (e environment) modelsLoad() *cli.Command {
	return subcommand(&cli.Command{
		Name: "load", Usage: "bring models into memory", ArgsUsage: "MODEL...",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(), nodeFlag("to load them on (default: the best one); 'all' that have them"),
			&cli.StringFlag{Name: "keep-alive", Usage: "how long they stay when nobody uses them, as in 30m; -1 for ever (default: as Ollama is set)"},
		},
		Action: func(c *cli.Context) error {
			return e.warm(c, "loaded", keepAlive(c.String("keep-alive")), func(row admin.ModelRow) []string {
				return where(row, c.String("node"), func(s admin.ModelSpot) bool { return s.OnDisk })
			})
		},
	})
}

func (e environment) modelsUnload() *cli.Command {
	return subcommand(&cli.Command{
		Name: "unload", Usage: "take models out of memory", ArgsUsage: "MODEL...",
		Flags: []cli.Flag{apiFlag(), jsonFlag(), nodeFlag("to unload them on (default: all that have them in memory)")},
		Action: func(c *cli.Context) error {
			return e.warm(c, "unloaded", 0, func(row admin.ModelRow) []string {
				node := c.String("node")
				if node == "" {
					node = "all"
				}
				return where(row, node, func(s admin.ModelSpot) bool { return s.Loaded })
			})
		},
	})
}

// keepAlive is a duration as Ollama takes it; nil leaves it to Ollama.
func keepAlive(text string) any {
	if text == "-1" {
		return -1
	}
	if text == "" {
		return nil
	}
	return text
}

// where names the nodes that an order goes to, "" for the mesh's own choice.
func where(row admin.ModelRow, node string, ok func(admin.ModelSpot) bool) []string {
	if node != "all" {
		return strings.Split(node, ",")
	}
	var nodes []string
	for name, spot := range row.On {
		if ok(spot) {
			nodes = append(nodes, name)
		}
	}
	return nodes
}

// warm loads or unloads the models named.
func (e environment) warm(c *cli.Context, done string, keep any, nodes func(admin.ModelRow) []string) error {
	names, err := modelNames(c)
	if err != nil {
		return err
	}
	m, err := e.models(c)
	if err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	var changes []change
	for _, name := range names {
		row, ok := rowFor(m, name)
		if !ok {
			changes = append(changes, change{Model: name, Error: "no node has it"})
			continue
		}
		for _, node := range nodes(row) {
			path, body := "/api/generate", map[string]any{"model": name, "stream": false}
			if row.Embeds { // it takes no prompt, not even none
				path, body = "/api/embed", map[string]any{"model": name, "input": []string{}}
			}
			if keep != nil {
				body["keep_alive"] = keep
			}
			by, err := endpoint{client.Base}.call(c.Context, "POST", path, node, body, nil)
			if by == "" {
				by = node
			}
			changes = append(changes, changeOf(name, by, err))
		}
	}
	return e.finish(c, done, changes)
}

func rowFor(m admin.Models, name string) (admin.ModelRow, bool) {
	key := wire.Canonical(name)
	for _, row := range m.Models {
		if row.Key == key {
			return row, true
		}
	}
	return admin.ModelRow{}, false
}

func changeOf(model, by string, err error) change {
	ch := change{Model: model, Node: by}
	if err != nil {
		ch.Error = err.Error()
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			ch.Error = "the node's answer cannot be read"
		}
	}
	return ch
}
