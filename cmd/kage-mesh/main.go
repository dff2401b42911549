// Command kage-mesh makes the Ollamas of several machines one endpoint: run
// `kage-mesh join` beside each of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func main() {
	env := environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, args: os.Args}
	os.Exit(env.main(os.Args))
}

// environment is what a run of the program may touch; tests bring their own.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	args           []string // the command line of this process, to be read again on SIGHUP
}

// main runs the program and returns its exit code. The first SIGINT or SIGTERM
// asks the running command to end in good order; a second one ends the process
// at once.
func (e environment) main(args []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if e.onTerminal() {
		signal.Notify(signals, syscall.SIGHUP) // the terminal goes away; without one it means: reload
	}
	defer signal.Stop(signals)
	go func() {
		if sig, ok := <-signals; ok {
			cancel(stopped{sig})
			if sig, ok = <-signals; ok {
				os.Exit(signalCode(sig)) // the point of a second signal
			}
		}
	}()
	if len(args) > 1 && args[1] == completeWord {
		for _, o := range e.complete(ctx, args[2:]) {
			fmt.Fprintln(e.stdout, o)
		}
		return codeOK
	}
	app := newApp(e)
	err := app.RunContext(ctx, flagsFirst(app.Commands, args))
	if err == nil {
		return codeOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: codeFailure, cause: err}
	}
	fmt.Fprintf(e.stderr, "error: %s\n", f.cause)
	if f.fix != "" {
		fmt.Fprintf(e.stderr, "fix: %s\n", f.fix)
	}
	return f.code
}

// onTerminal reports whether a person runs the program.
func (e environment) onTerminal() bool {
	f, ok := e.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// stopped is the cause of a context that ended by a signal.
type stopped struct{ signal os.Signal }

func (s stopped) Error() string { return "stopped by " + s.signal.String() }

func signalCode(sig os.Signal) int {
	if s, ok := sig.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return codeFailure
}
