package scale

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
)

func cores() float64 { return float64(runtime.NumCPU()) }

// Write prints results as a Markdown table.
func Write(w io.Writer, results []Result) {
	head := []string{
		"members", "slowed", "they join", "all see all after", "CPU of it/node", "load late p50", "p99", "datagrams/s/node", "kB/s/node", "of it TCP",
		"memory/node", "CPU/node", "30 % die: seen by all", "falsely accused", "they return", "cores busy",
	}
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range results {
		fmt.Fprintf(w, "| %d | %s | %s | %s | %.2f s | %s | %s | %.0f | %.1f | %.1f | %.1f MiB | %.1f ms/s | %s | %d | %s | %.0f %% |\n",
			r.Members, slowed(r.Slow), pace(r.Rate), short(r.Joined), r.JoinCPU.Seconds(), short(r.Stale50), short(r.Stale99), r.Datagrams, (r.Bytes+r.Streamed)/1000, r.Streamed/1000,
			float64(r.Memory)/(1<<20), r.CPU*1000, short(r.Seen), r.FalseDeath, short(r.Returned), r.Busy*100)
	}
}

func short(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func slowed(times int) string {
	if times <= 1 {
		return "no"
	}
	return fmt.Sprintf("%d times", times)
}

func pace(rate int) string {
	if rate == 0 {
		return "at once"
	}
	return fmt.Sprintf("%d a second", rate)
}
