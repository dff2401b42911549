package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) topCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "top",
		Usage: "watch the mesh at work, in the terminal",
		Description: "Shows every node with its memory, the requests that it runs and the tokens that\n" +
			"it writes, and the requests that came through this machine's node. Needs no more\n" +
			"than 80 columns. Keys: q quits, s changes the order, the arrows scroll.\n\n" +
			"Where the output is no terminal it prints what it would show, once.",
		Flags:  []cli.Flag{apiFlag(), &cli.BoolFlag{Name: "json", Usage: "one JSON document with the mesh and the requests, once"}},
		Action: e.top,
	})
}

func (e environment) top(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	if _, err := client.Identity(c.Context); err != nil {
		return adminError(err)
	}
	if c.Bool("json") || !isTerminal(e.stdout) || e.getenv("TERM") == "dumb" {
		return e.topOnce(c.Context, client, c.Bool("json"))
	}
	in, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usage("run it in a terminal, or with its output into a file for one look", "top reads keys, and standard input is no terminal")
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	program := tea.NewProgram(newTopModel(paint{on: true}, time.Now()),
		tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(e.stdout), tea.WithoutSignalHandler())
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx, client, func(ev admin.Event) { program.Send(ev) }, func(error) { program.Send(topLost{}) })
	}()
	_, err = program.Run()
	stop()
	<-done
	if c.Context.Err() != nil {
		return nil // a signal, as good as q
	}
	return err
}

// topSnapshot is the document of --json.
type topSnapshot struct {
	Mesh     *admin.Picture  `json:"mesh"`
	Requests *admin.Requests `json:"requests"`
}

// topOnce shows the mesh once: as JSON when the node has told all, as text after
// the seconds that it takes to see what is written.
func (e environment) topOnce(ctx context.Context, client admin.Client, asJSON bool) error {
	look := 2*time.Second + 500*time.Millisecond
	if asJSON {
		look = 5 * time.Second
	}
	ctx, stop := context.WithTimeout(ctx, look)
	defer stop()
	m := newTopModel(paint{}, time.Now())
	m.width, m.height = 120, 1000
	var s topSnapshot
	err := client.Follow(ctx, func(ev admin.Event) {
		m = m.event(ev)
		if ev.Picture != nil {
			s.Mesh = ev.Picture
			m = m.tick(time.Now())
		}
		if ev.Requests != nil && s.Requests == nil {
			s.Requests = ev.Requests
		}
		if asJSON && s.Mesh != nil && s.Requests != nil {
			stop()
		}
	})
	if s.Mesh == nil {
		return adminError(err)
	}
	if asJSON {
		return e.writeJSON(s)
	}
	m = m.tick(time.Now())
	_, err = fmt.Fprintln(e.stdout, strings.Join(m.page(), "\n"))
	return err
}
