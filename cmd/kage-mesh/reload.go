package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// live are the settings that a running node takes over on SIGHUP; all others
// need a restart. API keys and the certificate of the client port are not among
// the settings: their files are read again whenever they change.
var live = []string{"allow", "drain-grace", "host", "log-level", "max-body", "origins", "parallel", "require-key", "seed"}

// reset is a setting that is not what it was.
type reset struct{ name, from, to string }

func (c reset) String() string { return c.name + ": " + orDash(c.from) + " -> " + orDash(c.to) }

// changes compares two lists of settings and parts them by whether a running
// node can take them over.
func changes(old, now []admin.Setting) (taken, restart []reset) {
	was := map[string]string{}
	for _, s := range old {
		was[s.Name] = s.Value
	}
	for _, s := range now {
		switch from, ok := was[s.Name]; {
		case !ok || from == s.Value || s.Name == "config":
		case slices.Contains(live, s.Name):
			taken = append(taken, reset{s.Name, from, s.Value})
		default:
			restart = append(restart, reset{s.Name, from, s.Value})
		}
	}
	return taken, restart
}

// reloader takes new settings over while a node runs.
type reloader struct {
	env      environment
	node     *node.Node
	level    *slog.LevelVar
	seeds    *seeds
	settings atomic.Pointer[[]admin.Setting] // what the node runs with
	log      *slog.Logger
}

// run reloads on every SIGHUP until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			r.reload(ctx)
		}
	}
}

// reload reads the settings again, by the command line that the node was
// started with, and takes over what can change. Settings that make no sense
// change nothing.
func (r *reloader) reload(ctx context.Context) {
	old := *r.settings.Load()
	err := r.env.reread(ctx, func(c *cli.Context) error {
		config, seeds, err := r.env.readJoin(c, r.log)
		if err != nil {
			return err
		}
		level, err := logLevel(c)
		if err != nil {
			return err
		}
		now := settingsOf(c)
		taken, restart := changes(old, now)
		if err := r.node.Reload(config); err != nil {
			return err
		}
		r.level.Set(level)
		r.seeds.set(seeds)
		r.settings.Store(merged(old, now))
		attrs := []any{"changed", list(taken)}
		if len(restart) > 0 {
			attrs = append(attrs, "needs_restart", list(restart))
		}
		r.log.Info("settings read again", attrs...)
		return nil
	})
	if err != nil {
		r.log.Error("the settings cannot be read again, nothing has changed", "err", err)
	}
}

// merged is what a node runs with after it took over what of now it can.
func merged(old, now []admin.Setting) *[]admin.Setting {
	out := slices.Clone(old)
	for i, s := range out {
		for _, n := range now {
			if n.Name == s.Name && slices.Contains(live, s.Name) {
				out[i] = n
			}
		}
	}
	return &out
}

func list(all []reset) string {
	var texts []string
	for _, c := range all {
		texts = append(texts, c.String())
	}
	if texts == nil {
		return "nothing"
	}
	return strings.Join(texts, ", ")
}

// reread parses the command line that this process was started with anew, and
// with it environment and configuration file, and hands what came out to act.
func (e environment) reread(ctx context.Context, act func(*cli.Context) error) error {
	quiet := e
	quiet.stdin, quiet.stdout, quiet.stderr = strings.NewReader(""), io.Discard, io.Discard
	app := newApp(quiet)
	app.Command("join").Action = act
	return app.RunContext(ctx, flagsFirst(app.Commands, e.args))
}

// seeds are the addresses that a node was told, as a source that can be told
// others while it runs.
type seeds struct {
	list atomic.Pointer[discovery.Static]
	news chan struct{} // one slot
}

func newSeeds(s discovery.Static) *seeds {
	out := &seeds{news: make(chan struct{}, 1)}
	out.list.Store(&s)
	return out
}

func (s *seeds) get() discovery.Static { return *s.list.Load() }

func (s *seeds) set(to discovery.Static) {
	if slices.Equal(to, s.get()) {
		return
	}
	s.list.Store(&to)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Run implements discovery.Source.
func (s *seeds) Run(ctx context.Context, found func(discovery.Peer)) error {
	for ctx.Err() == nil {
		inner, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.get().Run(inner, found) }()
		select {
		case <-s.news:
			cancel()
			if err := <-done; err != nil {
				return err
			}
		case err := <-done: // no seeds, or ctx has ended
			if err != nil {
				cancel()
				return err
			}
			select {
			case <-s.news:
			case <-ctx.Done():
			}
		}
		cancel()
	}
	return nil
}
