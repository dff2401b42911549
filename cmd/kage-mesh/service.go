package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/kardianos/service"
	"github.com/urfave/cli/v2"
)

// What systemd is given; deploy/systemd holds the same unit for packages.
var (
	//go:embed service/kage-mesh.service
	systemUnit string
	//go:embed service/kage-mesh-user.service
	userUnit string
	//go:embed service/kage-mesh.plist
	launchdPlist string
)

func (e environment) serviceCommand() *cli.Command {
	user := func() cli.Flag {
		return &cli.BoolFlag{Name: "user", Usage: "as a service of this user, without root (Linux, macOS)"}
	}
	return subcommand(&cli.Command{
		Name:  "service",
		Usage: "have the system run this machine's node: systemd, launchd or Windows",
		Subcommands: []*cli.Command{
			subcommand(&cli.Command{
				Name: "install", Usage: "install the service, start it now and at every boot",
				ArgsUsage:   "[-- JOIN-FLAGS...]",
				Description: "What follows -- is given to 'kage-mesh join'. Settings that change are better\nkept in the configuration file: 'kage-mesh join --help' says where it is.",
				Flags:       []cli.Flag{user()},
				Action:      e.serviceInstall,
			}),
			subcommand(&cli.Command{
				Name: "uninstall", Usage: "stop the service and remove it; configuration and identity stay",
				Flags: []cli.Flag{user()}, Action: e.serviceUninstall,
			}),
			subcommand(&cli.Command{
				Name: "status", Usage: "say whether the service is installed and runs",
				Flags: []cli.Flag{user()}, Action: e.serviceStatus,
			}),
		},
	})
}

// serviceConfig describes the service to whichever manager the system has.
func serviceConfig(user bool, args []string) *service.Config {
	unit := systemUnit
	if user {
		unit = userUnit
	}
	return &service.Config{
		Name: "kage-mesh", DisplayName: "kage-mesh",
		Description: "The Ollamas of several machines as one endpoint",
		Arguments:   append([]string{"join"}, args...),
		Option: service.KeyValue{
			"UserService": user, "SystemdScript": unit,
			"LaunchdConfig": launchdPlist, "RunAtLoad": true,
			"OnFailure": "restart", "OnFailureDelayDuration": "2s", // Windows
			"DelayedAutoStart": true,
		},
	}
}

func newService(c *cli.Context, args []string) (service.Service, error) {
	if c.Bool("user") && runtime.GOOS == "windows" {
		return nil, usage("leave --user out", "Windows has no services of one user")
	}
	return service.New(idle{}, serviceConfig(c.Bool("user"), args))
}

// idle is a service that is managed from outside, not run.
type idle struct{}

func (idle) Start(service.Service) error { return nil }
func (idle) Stop(service.Service) error  { return nil }

func (e environment) serviceInstall(c *cli.Context) error {
	args := c.Args().Slice()
	if err := e.checkJoin(c.Context, args); err != nil {
		return err
	}
	s, err := newService(c, args)
	if err != nil {
		return serviceError(err)
	}
	if err := s.Install(); err != nil {
		return serviceError(err)
	}
	if err := s.Start(); err != nil {
		return serviceError(err)
	}
	fmt.Fprintf(e.stderr, "the service is installed and runs (%s); see 'kage-mesh status'\n", s.Platform())
	return nil
}

// checkJoin reads args as join would, so that a slip is told now and not by a
// service that does not start.
func (e environment) checkJoin(ctx context.Context, args []string) error {
	app := newApp(e)
	app.Command("join").Action = func(*cli.Context) error { return nil }
	return app.RunContext(ctx, append([]string{"kage-mesh", "join"}, args...))
}

func (e environment) serviceUninstall(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	s, err := newService(c, nil)
	if err != nil {
		return serviceError(err)
	}
	_ = s.Stop() // it may not run
	if err := s.Uninstall(); err != nil {
		return serviceError(err)
	}
	fmt.Fprintln(e.stderr, "the service is gone; configuration and identity stay")
	return nil
}

func (e environment) serviceStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	s, err := newService(c, nil)
	if err != nil {
		return serviceError(err)
	}
	switch status, err := s.Status(); {
	case err != nil:
		return serviceError(err)
	case status == service.StatusRunning:
		fmt.Fprintf(e.stdout, "installed and running (%s)\n", s.Platform())
		return nil
	default:
		return &failure{code: codeNotRunning, cause: errors.New("the service is installed, but does not run"), fix: "see its log: journalctl -u kage-mesh"}
	}
}

// serviceError words what a service manager said.
func serviceError(err error) error {
	var f *failure
	switch {
	case err == nil, errors.As(err, &f):
		return err
	case errors.Is(err, service.ErrNotInstalled):
		return &failure{code: codeNotRunning, cause: errors.New("the service is not installed"), fix: "install it with 'kage-mesh service install'"}
	case errors.Is(err, service.ErrNoServiceSystemDetected):
		return &failure{code: codeFailure, cause: err, fix: "run 'kage-mesh join' by what starts programs here"}
	case errors.Is(err, fs.ErrPermission):
		return &failure{code: codeFailure, cause: err, fix: "run it as root (sudo), or add --user"}
	}
	return err
}

// underManager runs a command as a Windows service when Windows started it
// as one; everywhere else, and for people, it just runs it. Windows' manager
// tells a service to stop by a call, not by a signal.
func underManager(run cli.ActionFunc) cli.ActionFunc {
	if runtime.GOOS != "windows" || service.Interactive() {
		return run
	}
	return func(c *cli.Context) error {
		ctx, cancel := context.WithCancel(c.Context)
		defer cancel()
		c.Context = ctx
		p := &managed{run: func() error { return run(c) }, cancel: cancel, done: make(chan error, 1)}
		s, err := service.New(p, serviceConfig(false, nil))
		if err != nil {
			return err
		}
		return s.Run()
	}
}

// managed is a command that a service manager starts and stops.
type managed struct {
	run    func() error
	cancel context.CancelFunc
	done   chan error

	stopping atomic.Bool
}

// Start must not wait. A node that ends by itself in order stops the service;
// one that fails ends the process, by which the manager sees to start it again.
func (p *managed) Start(s service.Service) error {
	go func() {
		err := p.run()
		p.done <- err
		switch {
		case p.stopping.Load():
		case err == nil:
			_ = s.Stop()
		default:
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
		}
	}()
	return nil
}

// Stop asks the command to end and waits until it has.
func (p *managed) Stop(service.Service) error {
	p.stopping.Store(true)
	p.cancel()
	return <-p.done
}
