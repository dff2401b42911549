// Command scale measures meshes of many members in this process and prints a
// table. `make scale` runs it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet/scale"
)

func main() {
	debug.SetGCPercent(400) // as a node has it while its heap is small
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	members := flags.String("members", "32,100,300,500", "sizes of meshes, by comma")
	rate := flags.Int("rate", 0, "members that join per second; 0: all at once")
	slow := flags.Int("slow", 1, "stretch all intervals so many times, where the machine is too small, and tell results as if it had that much more")
	window := flags.Duration("window", 20*time.Second, "of steady traffic")
	limit := flags.Duration("limit", 3*time.Minute, "for every step")
	asJSON := flags.Bool("json", false, "print JSON instead of the table")
	profile := flags.String("cpuprofile", "", "write a CPU profile of the steady traffic of the last mesh to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var file *os.File
	if *profile != "" {
		var err error
		if file, err = os.Create(*profile); err != nil {
			return err
		}
		defer file.Close()
	}
	var results []scale.Result
	var failed error
	for text := range strings.SplitSeq(*members, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("-members: %w", err)
		}
		o := scale.Options{
			Rate: *rate, Slow: *slow, Window: *window, Limit: *limit, Seed: 1,
			Say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
		}
		if file != nil {
			o.Profile = file
		}
		r, err := scale.Run(ctx, n, o)
		results = append(results, r)
		if err != nil {
			failed = fmt.Errorf("%d members: %w", n, err)
			break
		}
	}
	if *asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
			return err
		}
		return failed
	}
	scale.Write(os.Stdout, results)
	return failed
}
