package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// followAgain is how long a command waits for a node that went away before it
// asks again.
const followAgain = 2 * time.Second

// follow tells events of the node until ctx ends. lost hears why the stream
// broke; it is taken up again by itself.
func follow(ctx context.Context, client admin.Client, tell func(admin.Event), lost func(error)) {
	for {
		err := client.Follow(ctx, tell)
		if ctx.Err() != nil {
			return
		}
		lost(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(followAgain):
		}
	}
}

func watchFlag() cli.Flag {
	return &cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it anew with every change, until stopped; with --json one document a line"}
}

// watch shows what ask gets, as write writes it, whenever the mesh changes: in
// place on a terminal, else one after the other. ask runs once before anything
// else, so that a node that does not run is an error as it is without --watch.
func watch[T any](e environment, c *cli.Context, client admin.Client, ask func(context.Context) (T, error), write func(environment, T) error) error {
	s := &screen{environment: e, terminal: isTerminal(e.stdout)}
	show := func() error {
		doc, err := ask(c.Context)
		if err != nil {
			return adminError(err)
		}
		if c.Bool("json") {
			return json.NewEncoder(e.stdout).Encode(doc)
		}
		return s.show(func(to environment) error { return write(to, doc) })
	}
	if err := show(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	first := true
	follow(ctx, client, func(ev admin.Event) {
		if ev.Picture == nil {
			return
		}
		if first { // it is shown already
			first = false
			return
		}
		s.lost = ""
		if err := show(); err != nil && ctx.Err() == nil && !isLost(err) {
			stop(err)
		}
	}, func(error) {
		first = false
		if s.lost == "" {
			s.lost = "the node does not answer since " + time.Now().Format(time.TimeOnly) + ", trying again"
			fmt.Fprintln(e.stderr, s.lost)
		}
	})
	if cause := context.Cause(ctx); c.Context.Err() == nil {
		return cause // writing failed
	}
	return nil // stopped, as a watch ends
}

// isLost tells a node that went away in this moment, which follow notices too.
func isLost(err error) bool {
	f, ok := err.(*failure) //nolint:errorlint // as adminError made it
	return ok && f.code == codeNotRunning
}

// screen shows one text in place of another.
type screen struct {
	environment
	terminal bool
	shown    bool
	lost     string // since when the node does not answer, "" while it does
}

func (s *screen) show(write func(environment) error) error {
	switch {
	case s.terminal:
		// Home, then what is below is cleared: no flicker of a whole clear.
		fmt.Fprint(s.stdout, "\x1b[H\x1b[J")
	case s.shown:
		fmt.Fprintln(s.stdout)
	}
	s.shown = true
	return write(s.environment)
}

// isTerminal reports whether w is a terminal that understands more than text.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
