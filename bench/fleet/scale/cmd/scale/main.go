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
	members := flags.String("members", "32,64,100,100/3,300/8", "meshes, by comma: members, /times slower than life, @members that join per second (else all at once)")
	window := flags.Duration("window", 10*time.Second, "of steady traffic")
	limit := flags.Duration("limit", 3*time.Minute, "for every step")
	asJSON := flags.Bool("json", false, "print JSON instead of the table")
	profile := flags.String("cpuprofile", "", "write a CPU profile of the steady traffic of the last mesh to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	meshes, err := parse(*members)
	if err != nil {
		return fmt.Errorf("-members: %w", err)
	}
	var file *os.File
	if *profile != "" {
		if file, err = os.Create(*profile); err != nil {
			return err
		}
		defer file.Close()
	}
	var results []scale.Result
	var failed error
	for _, x := range meshes {
		o := x.Options
		o.Window, o.Limit, o.Seed = *window, *limit, 1
		o.Say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
		if file != nil {
			o.Profile = file
		}
		r, err := scale.Run(ctx, x.members, o)
		results = append(results, r)
		if err != nil {
			failed = fmt.Errorf("%d members: %w", x.members, err)
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

// of is one mesh to measure.
type of struct {
	members int
	scale.Options
}

// parse reads "32,300/8,500/10@50".
func parse(list string) ([]of, error) {
	var out []of
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		rest, rate, rated := strings.Cut(text, "@")
		n, slow, slowed := strings.Cut(rest, "/")
		var x of
		for _, part := range []struct {
			given bool
			text  string
			into  *int
		}{{true, n, &x.members}, {slowed, slow, &x.Slow}, {rated, rate, &x.Rate}} {
			if !part.given {
				continue
			}
			v, err := strconv.Atoi(part.text)
			if err != nil || v < 1 {
				return nil, fmt.Errorf("%q is no mesh: members, members/slower or members/slower@rate", text)
			}
			*part.into = v
		}
		out = append(out, x)
	}
	return out, nil
}
