package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) keysCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "keys",
		Usage: "the mesh key: who has which, and a new one for all",
		Subcommands: []*cli.Command{
			subcommand(&cli.Command{
				Name: "list", Usage: "which key each live node has, by fingerprint",
				Flags: []cli.Flag{apiFlag(), jsonFlag()}, Action: e.listKeys,
			}),
			subcommand(&cli.Command{
				Name: "rotate", Usage: "give every live node a new mesh key and print it",
				Description: "Goes step by step: all nodes get the new key, all send with it, all forget the\n" +
					"old one. A node that does not follow stops it and is named. Running requests do\n" +
					"not notice. Nodes that are off keep the old key: join them with the new one.",
				Flags: []cli.Flag{apiFlag()}, Action: e.rotateKey,
			}),
			subcommand(&cli.Command{
				Name: "remove", Usage: "end a rotation that was not finished, by the fingerprint to drop", ArgsUsage: "FINGERPRINT",
				Flags: []cli.Flag{apiFlag()}, Action: e.removeKey,
			}),
		},
	})
}

func (e environment) evictCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name: "evict", Usage: "shut a node out: deny its id everywhere and rotate the mesh key", ArgsUsage: "NODE",
		Description: "The node keeps nothing that opens the mesh. In a mesh without a key it can come\n" +
			"back as a new node: give the mesh a key. 'kage-mesh trust' takes it back.",
		Flags: []cli.Flag{apiFlag()}, Action: e.evict,
	})
}

func (e environment) trustCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name: "trust", Usage: "let an evicted node in again", ArgsUsage: "ID",
		Description: "A node's id is the hash of its key, so a node can never show another key under\n" +
			"the same id, and nothing else needs to be trusted by hand. In a keyed mesh the\n" +
			"node also needs the key of now.",
		Flags: []cli.Flag{apiFlag()}, Action: e.trust,
	})
}

// oneArgument is the only argument of a command that needs one.
func oneArgument(c *cli.Context, what string) (string, error) {
	if c.Args().Len() != 1 {
		return "", usage("see 'kage-mesh "+c.Command.Name+" --help'; flags come before the argument", "give one %s", what)
	}
	return c.Args().First(), nil
}

func (e environment) listKeys(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	keys, err := client.Keys(c.Context)
	if err != nil {
		return adminError(err)
	}
	if c.Bool("json") {
		return e.writeJSON(keys)
	}
	if !keys.Keyed {
		fmt.Fprintln(e.stdout, "this mesh has no key: every machine on the network can join (kage-mesh keygen)")
		return nil
	}
	var rows [][]string
	for _, n := range keys.Nodes {
		in, old := "-", "-"
		if len(n.Keys) > 0 {
			in, old = n.Keys[0], strings.Join(n.Keys[1:], " ")
		}
		if n.Err != "" {
			old = n.Err
		}
		rows = append(rows, []string{n.Name, in, old})
	}
	return e.table([]string{"NODE", "KEY", "ALSO TAKES"}, rows)
}

func (e environment) rotateKey(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	r, err := client.RotateKey(c.Context)
	if err != nil {
		return keysError(err)
	}
	e.showKey(r)
	return nil
}

func (e environment) showKey(r admin.Rotated) {
	fmt.Fprintln(e.stdout, r.Key)
	fmt.Fprintln(e.stderr, "every live node has stored this key; give it to nodes that were off, and to new ones")
}

func keysError(err error) error {
	err = adminError(err)
	switch text := err.Error(); {
	case strings.Contains(text, "did not"):
		return &failure{code: codeFailure, cause: err, fix: "bring the nodes named back, or stop them, and run it again; see 'kage-mesh keys list'"}
	case strings.Contains(text, "not finished"):
		return &failure{code: codeFailure, cause: err, fix: "see 'kage-mesh keys list', then 'kage-mesh keys remove FINGERPRINT' of the key to drop"}
	case strings.Contains(text, "no key"):
		return &failure{code: codeKey, cause: err, fix: "make one with 'kage-mesh keygen' and start every node with it"}
	}
	return err
}

func (e environment) removeKey(c *cli.Context) error {
	fingerprint, err := oneArgument(c, "fingerprint")
	if err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	if err := client.RemoveKey(c.Context, fingerprint); err != nil {
		return keysError(err)
	}
	return nil
}

func (e environment) evict(c *cli.Context) error {
	name, err := oneArgument(c, "node, by name or id")
	if err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	r, err := client.Evict(c.Context, name)
	if err != nil {
		return keysError(err)
	}
	if r.Key == "" {
		fmt.Fprintln(e.stderr, "the mesh has no key: the node can come back under a new id")
		return nil
	}
	e.showKey(r)
	return nil
}

func (e environment) trust(c *cli.Context) error {
	name, err := oneArgument(c, "node id")
	if err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	if err := client.Trust(c.Context, name); err != nil {
		return keysError(err)
	}
	return nil
}
