//go:build linux

package faults

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are the cases played in this run.
var results []story

const preamble = `# What was broken, and what the mesh did

Each row is one case of the fault lab: real kage-mesh processes on hosts of their own (network namespaces), with fake
Ollamas whose tokens are numbered or with real ones. ` + "`make faults`" + ` plays them all and writes this page;
` + "`go test ./deploy/faults -run Case07`" + ` plays one. The times are no promises.

**%d of %d as they must be**, all in one run of %d minutes on %d cores.

| case | what goes wrong | what must be seen | seen | time | |
|---:|---|---|---|---:|---|
`

// cases is how many there are.
const cases = 50

// writeResults writes the table of one run, which must have played all cases.
func writeResults(path string, took time.Duration) error {
	slices.SortFunc(results, func(a, b story) int { return a.number - b.number })
	numbers, good := map[int]bool{}, 0
	var rows strings.Builder
	for _, r := range results {
		numbers[r.number] = true
		if r.verdict == "ok" {
			good++
		}
		fmt.Fprintf(&rows, "| %d | %s | %s | %s | %.1f s | %s |\n", r.number,
			cell(r.fault), cell(r.expects), cell(strings.Join(r.seen, "; ")), r.took.Seconds(), r.verdict)
	}
	if len(numbers) != cases {
		return fmt.Errorf("%s is for whole runs: %d of %d cases were played", path, len(numbers), cases)
	}
	head := fmt.Sprintf(preamble, good, cases, int(took.Round(time.Minute).Minutes()), runtime.NumCPU())
	return os.WriteFile(path, []byte(head+rows.String()), 0o644)
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
