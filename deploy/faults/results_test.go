//go:build linux

package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// results are the cases played so far.
var results []story

const preamble = `# What was broken, and what the mesh did

Each row is one case of the fault lab: real kage-mesh processes on hosts of their own (network namespaces), with fake
Ollamas whose tokens are numbered or with real ones. ` + "`make faults`" + ` plays them all and writes this page;
` + "`go test ./deploy/faults -run Case07`" + ` plays one. "Seen" is of the last run, by which the times are no promises.

| case | what goes wrong | what must be seen | seen | time | |
|---:|---|---|---|---:|---|
`

// writeResults writes the table of the cases played.
func writeResults(path string) error {
	slices.SortFunc(results, func(a, b story) int { return a.number - b.number })
	var b strings.Builder
	b.WriteString(preamble)
	for _, r := range results {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %.1f s | %s |\n", r.number,
			cell(r.fault), cell(r.expects), cell(strings.Join(r.seen, "; ")), r.took.Seconds(), r.verdict)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
