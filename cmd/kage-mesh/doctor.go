package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh/doctor"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

func (e environment) doctorCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "doctor",
		Usage: "find what is wrong here, and say how to mend it",
		Description: "Looks at this machine, its Ollama, its node and the paths to the other nodes, each\n" +
			"way. It changes nothing. Without a node it checks what can be seen without one.\n" +
			"Exits with 0 when all is well, 4 with warnings, 1 when something does not work.\n\n" +
			"Scopes: connectivity, services and models, which are the default; parallel runs\n" +
			"small requests on every node, alone and at once, for some seconds; all is all.",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(), configFlag(),
			&cli.StringSliceFlag{Name: "scope", Usage: "`SCOPE` to check: connectivity, services, models, parallel or all"},
			&cli.BoolFlag{Name: "fix-hints", Usage: "say also what each finding means"},
			&cli.StringFlag{Name: "bundle", Usage: "write what was found into `FILE`, a .tar.gz to show others: no keys, no text of requests"},
		},
		Action: e.doctor,
	})
}

// diagnosis is what doctor prints.
type diagnosis struct {
	SchemaVersion int                `json:"schema_version"`
	Timestamp     time.Time          `json:"timestamp"`
	Node          string             `json:"node"` // "" when none runs here
	Verdict       doctor.Level       `json:"verdict"`
	Findings      []doctor.Finding   `json:"findings"`
	Parallel      *doctor.Comparison `json:"parallel,omitempty"`
}

func (e environment) doctor(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	scopes, err := scopesOf(c.StringSlice("scope"))
	if err != nil {
		return err
	}
	facts, client, err := e.examine(c, scopes)
	if err != nil {
		return err
	}
	d := diagnosis{SchemaVersion: 1, Timestamp: time.Now().UTC(), Findings: doctor.Run(facts, scopes...)}
	if facts.Node != nil {
		d.Node = facts.Node.Members.Self
	}
	if slices.Contains(scopes, doctor.Parallel) {
		if facts.Node == nil {
			return adminError(fmt.Errorf("%w at %s", admin.ErrNotRunning, client.Base))
		}
		comparison, found := doctor.Compare(e.measure(c.Context, client.Base, doctor.Runners(facts.Node.Models)))
		d.Parallel, d.Findings = &comparison, append(d.Findings, found...)
		doctor.Sort(d.Findings)
	}
	d.Verdict = doctor.Worst(d.Findings)
	if path := c.String("bundle"); path != "" {
		if err := e.bundle(c.Context, path, client, d, facts); err != nil {
			return err
		}
		fmt.Fprintf(e.stderr, "written to %s; look through it before you pass it on: it names nodes, models and addresses\n", path)
	}
	if c.Bool("json") {
		err = e.writeJSON(d)
	} else {
		e.printDiagnosis(d, c.Bool("fix-hints"))
	}
	if err != nil {
		return err
	}
	return verdictError(d)
}

func verdictError(d diagnosis) error {
	n := map[doctor.Level]int{}
	for _, f := range d.Findings {
		n[f.Level]++
	}
	switch d.Verdict {
	case doctor.Failed:
		return &failure{code: codeFailure, cause: errors.New(plural(n[doctor.Failed], "check") + " failed"), fix: "see the lines with ✗ above"}
	case doctor.Warning:
		return &failure{code: codeDegraded, cause: errors.New(plural(n[doctor.Warning], "warning")), fix: "see the lines with ! above"}
	}
	return nil
}

func scopesOf(names []string) (out []doctor.Scope, err error) {
	var known []string
	for _, s := range doctor.Scopes {
		known = append(known, string(s))
	}
	for _, name := range names {
		switch {
		case name == "all":
			return doctor.Scopes, nil
		case !slices.Contains(known, name):
			fix := "scopes are " + strings.Join(known, ", ") + " and all"
			if near := nearest(name, known); near != "" {
				fix = "did you mean '" + near + "'? " + fix
			}
			return nil, usage(fix, "no scope '%s'", name)
		}
		out = append(out, doctor.Scope(name))
	}
	if out == nil {
		out = []doctor.Scope{doctor.Connectivity, doctor.Services, doctor.Models}
	}
	return out, nil
}

// examine gathers the facts, from this machine and from the node, if one runs.
func (e environment) examine(c *cli.Context, scopes []doctor.Scope) (doctor.Facts, admin.Client, error) {
	config := e.joinConfig(c.Context, c.String("config"))
	value := func(name, fallback string) string {
		for _, s := range config.Settings {
			if s.Name == name {
				return s.Value
			}
		}
		return fallback
	}
	if !c.IsSet("api") {
		if _, port, err := net.SplitHostPort(value("api-listen", "")); err == nil && port != "0" {
			_ = c.Set("api", net.JoinHostPort("127.0.0.1", port)) // a string flag takes any string
		}
	}
	client, err := adminClient(c)
	if err != nil {
		return doctor.Facts{}, client, err
	}
	members, nodeErr := client.Members(c.Context)
	var running admin.Checkup
	if nodeErr == nil {
		running, _ = client.CheckupHere(c.Context) // a node too old for it is told below
	}

	q := doctor.Question{Survey: slices.Contains(scopes, doctor.Connectivity)}
	if nodeErr == nil && running.Ollama != "" {
		q.Ollama, q.StateDir, q.ModelDirs = running.Ollama, running.StateDir, running.Models
	} else {
		q.Ollama = cmp.Or(value("ollama", ""), e.getenv("OLLAMA_HOST"))
		q.StateDir, q.ModelDirs = value("state-dir", stateHome()), store.Usual()
		if dir := value("ollama-models", ""); dir != "" {
			q.ModelDirs = []string{dir}
		}
	}
	if nodeErr != nil {
		q.Listen = map[string]string{
			"api": value("api-listen", ":11435"), "peer": value("peer-listen", ":11436"), "gossip": value("gossip-listen", ":11437"),
		}
	}
	facts := doctor.Gather(c.Context, doctor.NewSystem(), q)
	facts.Config, facts.Endpoint = config, client.Base
	if nodeErr != nil {
		facts.NodeError = nodeErr.Error()
		return facts, client, nil
	}
	node := doctor.Node{Members: members}
	if node.Models, err = client.Models(c.Context); err == nil {
		node.Checkup, err = client.Checkup(c.Context, unknown(facts, members)...)
	}
	if err != nil {
		facts.NodeError = err.Error()
		return facts, client, nil
	}
	facts.Node = &node
	return facts, client, nil
}

// unknown are the addresses of nodes that were heard and are no members.
func unknown(f doctor.Facts, m admin.Members) (addrs []string) {
	for _, h := range f.MDNS.Heard {
		known := slices.ContainsFunc(m.Members, func(o admin.Member) bool { return o.ID == h.ID && o.Status != "left" })
		if !known && len(h.Addrs) > 0 {
			addrs = append(addrs, h.Addrs[0])
		}
	}
	return addrs
}

// joinConfig reads the settings as a join here would.
func (e environment) joinConfig(ctx context.Context, path string) (out doctor.Config) {
	quiet := e
	quiet.args = []string{"kage-mesh", "join"}
	if path != "" {
		quiet.args = append(quiet.args, "--config", path)
	}
	err := quiet.reread(ctx, func(c *cli.Context) error {
		out.Settings = settingsOf(c)
		_, err := logLevel(c)
		if err == nil {
			_, err = e.guardConfig(c)
		}
		if err == nil {
			_, err = overridesOf(c)
		}
		return err
	})
	for _, s := range out.Settings {
		if s.Name == "config" {
			out.Path = s.Value
		}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		out.Error, out.Fix = f.cause.Error(), f.fix
	} else if err != nil {
		out.Error = err.Error()
	}
	for _, name := range strangeVariables(os.Environ()) {
		out.Strange = append(out.Strange, name+"="+nearest(name, variables()))
	}
	return out
}

func (e environment) printDiagnosis(d diagnosis, why bool) {
	p := e.paint(e.stdout)
	marks := map[doctor.Level]string{doctor.Passed: p.green("✓"), doctor.Warning: p.yellow("!"), doctor.Failed: p.red("✗")}
	n := map[doctor.Level]int{}
	for _, f := range d.Findings {
		n[f.Level]++
		fmt.Fprintf(e.stdout, "%s %-14s  %s\n", marks[f.Level], f.Check, f.Evidence)
		if f.Level == doctor.Passed {
			continue
		}
		const indent = "                  "
		label := "fix: "
		if f.On != "" {
			label = "fix, on " + f.On + ": "
		}
		for i, line := range strings.Split(f.Fix, "\n") {
			if i > 0 {
				label = strings.Repeat(" ", len(label))
			}
			fmt.Fprintf(e.stdout, "%s%s%s\n", indent, label, line)
		}
		if why && f.Why != "" {
			fmt.Fprintf(e.stdout, "%swhy: %s\n", indent, f.Why)
		}
	}
	fmt.Fprintf(e.stdout, "%d passed, %s, %d failed\n", n[doctor.Passed], plural(n[doctor.Warning], "warning"), n[doctor.Failed])
}
