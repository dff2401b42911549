package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
)

func stateFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "state-dir", EnvVars: []string{"KAGE_STATE_DIR"}, Value: stateHome(),
		Usage: "`DIRECTORY` of the node, as in 'kage-mesh join'",
	}
}

func (e environment) apikeysCommand() *cli.Command {
	sub := func(c *cli.Command) *cli.Command { return subcommand(c) }
	return sub(&cli.Command{
		Name:  "apikeys",
		Usage: "keys for clients of this node's port",
		Description: "As soon as there is a key, clients from the network need one; programs on this\n" +
			"machine never do. A running node takes changes over within two seconds.",
		Subcommands: []*cli.Command{
			sub(&cli.Command{
				Name: "add", Usage: "make a key and print it, once", ArgsUsage: "NAME",
				Flags: []cli.Flag{
					stateFlag(),
					&cli.StringSliceFlag{Name: "scope", Usage: "what it opens: infer, metrics or admin, which is all (default: infer)"},
					&cli.IntFlag{Name: "rate", Usage: "requests per minute (0: no limit)"},
					&cli.IntFlag{Name: "concurrent", Usage: "requests at once (0: no limit)"},
				},
				Action: e.addAPIKey,
			}),
			sub(&cli.Command{
				Name: "list", Usage: "names, scopes and limits", Flags: []cli.Flag{stateFlag(), jsonFlag()},
				Action: e.listAPIKeys,
			}),
			sub(&cli.Command{
				Name: "remove", Usage: "take a key away", ArgsUsage: "NAME", Flags: []cli.Flag{stateFlag()},
				Action: e.removeAPIKey,
			}),
		},
	})
}

func apikeyStore(c *cli.Context) *apikeys.Store {
	return apikeys.Open(filepath.Join(c.String("state-dir"), apikeys.File))
}

// oneName is the command's only argument.
func oneName(c *cli.Context) (string, error) {
	if c.Args().Len() != 1 {
		return "", usage("as in 'kage-mesh apikeys "+c.Command.Name+" open-webui'; flags come before the name", "give one name")
	}
	return c.Args().First(), nil
}

func (e environment) addAPIKey(c *cli.Context) error {
	name, err := oneName(c)
	if err != nil {
		return err
	}
	key := apikeys.Key{Name: name, Rate: c.Int("rate"), Running: c.Int("concurrent")}
	for _, s := range c.StringSlice("scope") {
		key.Scopes = append(key.Scopes, apikeys.Scope(s))
	}
	if len(key.Scopes) == 0 {
		key.Scopes = []apikeys.Scope{apikeys.Infer}
	}
	text, err := apikeyStore(c).Add(key, time.Now())
	switch {
	case errors.Is(err, apikeys.ErrInvalid):
		return usage("see 'kage-mesh apikeys add --help'", "%w", err)
	case errors.Is(err, apikeys.ErrExists):
		return &failure{code: codeFailure, cause: err, fix: "choose another name, or remove that one first"}
	case err != nil:
		return err
	}
	fmt.Fprintln(e.stdout, text)
	fmt.Fprintln(e.stderr, "this key is shown only now; clients send it as 'Authorization: Bearer' or 'x-api-key'")
	return nil
}

func (e environment) listAPIKeys(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	keys, err := apikeyStore(c).List()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		type entry struct {
			Name       string          `json:"name"`
			Scopes     []apikeys.Scope `json:"scopes"`
			Rate       int             `json:"requests_per_minute"`
			Concurrent int             `json:"concurrent"`
			Created    time.Time       `json:"created"`
		}
		out := struct {
			SchemaVersion int     `json:"schema_version"`
			Keys          []entry `json:"keys"`
		}{1, []entry{}}
		for _, k := range keys {
			out.Keys = append(out.Keys, entry{k.Name, k.Scopes, k.Rate, k.Running, k.Created})
		}
		return e.writeJSON(out)
	}
	var rows [][]string
	for _, k := range keys {
		var scopes []string
		for _, s := range k.Scopes {
			scopes = append(scopes, string(s))
		}
		rows = append(rows, []string{k.Name, strings.Join(scopes, ","), limit(k.Rate), limit(k.Running), k.Created.Format(time.DateOnly)})
	}
	return e.table([]string{"NAME", "SCOPES", "PER MINUTE", "AT ONCE", "CREATED"}, rows)
}

func limit(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func (e environment) removeAPIKey(c *cli.Context) error {
	name, err := oneName(c)
	if err != nil {
		return err
	}
	err = apikeyStore(c).Remove(name)
	if errors.Is(err, apikeys.ErrUnknown) {
		return &failure{code: codeFailure, cause: err, fix: "see 'kage-mesh apikeys list'"}
	}
	return err
}
