//go:build linux

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// results are the cases played so far.
var results []story

const preamble = `# What was broken, and what the mesh did

Each row is one case of the fault lab: real kage-mesh processes on hosts of their own (network namespaces), with fake
Ollamas whose tokens are numbered or with real ones. ` + "`make faults`" + ` plays them all and writes this page;
` + "`go test ./deploy/faults -run Case07`" + ` plays one. "Seen" is of the last time that the case was played; the times are
no promises.

| case | what goes wrong | what must be seen | seen | time | |
|---:|---|---|---|---:|---|
`

// writeResults writes the table: the cases played now, and as they stand there
// those of the table before that were not.
func writeResults(path string) error {
	rows := map[int]string{}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(before)) {
		var number int
		if n, _ := fmt.Sscanf(line, "| %d |", &number); n == 1 {
			rows[number] = line
		}
	}
	for _, r := range results {
		rows[r.number] = fmt.Sprintf("| %d | %s | %s | %s | %.1f s | %s |\n", r.number,
			cell(r.fault), cell(r.expects), cell(strings.Join(r.seen, "; ")), r.took.Seconds(), r.verdict)
	}
	var b strings.Builder
	b.WriteString(preamble)
	for _, number := range slices.Sorted(maps.Keys(rows)) {
		b.WriteString(rows[number])
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
