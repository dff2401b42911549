package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// writeJSON prints one document, and nothing else, on stdout.
func (e environment) writeJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows in columns as wide as they need.
func (e environment) table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// paint colours text, on a terminal only (no-color.org). Words and marks carry
// the meaning; colour only repeats it.
type paint struct{ on bool }

func (e environment) paint(w io.Writer) paint {
	f, ok := w.(*os.File)
	return paint{on: ok && term.IsTerminal(int(f.Fd())) && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"}
}

func (p paint) green(s string) string  { return p.colour("32", s) }
func (p paint) yellow(s string) string { return p.colour("33", s) }
func (p paint) red(s string) string    { return p.colour("31", s) }
func (p paint) cyan(s string) string   { return p.colour("36", s) }
func (p paint) dim(s string) string    { return p.colour("2", s) }

func (p paint) colour(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
