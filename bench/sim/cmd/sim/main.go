// Command sim prints the tables of bench/sim as Markdown.
package main

import (
	"flag"
	"os"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/sim"
)

func main() {
	only := flag.String("only", "", "one table: seed4, unequal16, mesh100, robust or herding; default all")
	seeds := flag.Int("seeds", 8, "seeds per cell")
	flag.Parse()
	for _, t := range []struct {
		name  string
		print func()
	}{
		{"seed4", func() { sim.Compare(os.Stdout, sim.Seed4(), 800, *seeds) }},
		{"unequal16", func() { sim.Compare(os.Stdout, sim.Unequal16(), 800, *seeds) }},
		{"mesh100", func() { sim.Compare(os.Stdout, sim.Mesh100(), 800, *seeds) }},
		{"robust", func() {
			sim.Robust(os.Stdout, sim.Seed4(), 800, *seeds)
			sim.Robust(os.Stdout, sim.Unequal16(), 800, *seeds)
		}},
		{"herding", func() { sim.Herding(os.Stdout, 800, *seeds) }},
	} {
		if *only == "" || *only == t.name {
			t.print()
		}
	}
}
