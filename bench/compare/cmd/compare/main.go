// Command compare measures proxies in front of Ollama side by side and writes
// bench/report. `make bench` runs it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/compare"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && (args[0] == "fake" || args[0] == "faithful") {
		return fake(ctx, args[0] == "faithful", args[1:])
	}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "about two minutes, for a first look")
	repeats := flags.Int("repeats", 0, "repeats of every slice (default 5, quick 2)")
	slice := flags.Duration("slice", 0, "length of a slice of load (default 2s, quick 1s)")
	only := flags.String("only", "", "scenarios, by comma: small, streams, faults, gone, makespan")
	which := flags.String("case", "", "of the streams, only those whose name has this in it, such as 500")
	ways := flags.String("ways", "", "ways to compare, by semicolon, as the report names them; 'NAME @LABEL' is the -build LABEL")
	kage := flags.String("kage", "", "kage-mesh binary to measure (default: built from this tree)")
	builds := flags.String("builds", "", "further kage-mesh binaries, LABEL=PATH by comma, for a comparison of builds")
	out := flags.String("out", "bench/report", "directory for the report")
	from := flags.String("from", "", "make the report anew from this results.json, without measuring")
	notes := flags.String("notes", "", "sentence for the report, such as what else the machine did")
	seed := flags.Uint64("seed", 1, "of everything random")
	limit := flags.Duration("limit", 45*time.Minute, "end after that, with what there is")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *from != "" {
		return again(*from, *out)
	}
	dir, err := os.MkdirTemp("", "kage-mesh-compare-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := compare.Options{
		Repeats: *repeats, Slice: *slice, Quick: *quick, Seed: *seed, Notes: *notes, Progress: os.Stderr,
		Scenarios: list(*only, ","), Targets: list(*ways, ";"), Case: *which,
	}
	if o.Binaries, err = binaries(ctx, dir, *kage, *builds); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	results, err := compare.Run(ctx, o)
	if results != nil {
		if werr := compare.WriteReport(*out, results); werr != nil {
			return werr
		}
		fmt.Fprintln(os.Stderr, "written:", filepath.Join(*out, "README.md"))
	}
	return err
}

func list(text, by string) (out []string) {
	for s := range strings.SplitSeq(text, by) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func again(from, out string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r compare.Results
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	return compare.WriteReport(out, &r)
}

// binaries finds or builds the programs to run.
func binaries(ctx context.Context, dir, kage, builds string) (compare.Binaries, error) {
	self, err := os.Executable()
	if err != nil {
		return compare.Binaries{}, err
	}
	if kage == "" {
		kage = filepath.Join(dir, "kage-mesh")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", kage, "github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return compare.Binaries{}, fmt.Errorf("build kage-mesh: %w", err)
		}
	}
	b := compare.Binaries{Self: self, Kage: map[string]string{"": kage}}
	for _, pair := range list(builds, ",") {
		label, path, ok := strings.Cut(pair, "=")
		if !ok {
			return b, fmt.Errorf("-builds %s is not LABEL=PATH", pair)
		}
		b.Kage[label] = path
	}
	return b, nil
}

// fake is this program as a fake Ollama; it ends when its stdin does.
func fake(ctx context.Context, faithful bool, args []string) error {
	flags := flag.NewFlagSet("fake", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	slots := flags.Int("slots", 1, "requests at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &compare.Backend{Slots: *slots}
	for _, text := range flags.Args() {
		m, err := compare.ParseModel(text)
		if err != nil {
			return err
		}
		b.Models = append(b.Models, m)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is gone
		cancel()
	}()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	if faithful {
		return b.ServeFaithful(ctx, l)
	}
	return b.Serve(ctx, l)
}
