// Command sim prints the tables of bench/sim as Markdown.
package main

import (
	"flag"
	"os"
	"runtime/debug"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/sim"
)

func main() {
	only := flag.String("only", "", "one table: seed4, unequal16, mesh100, robust or herding; default all")
	seeds := flag.Int("seeds", 8, "seeds per cell; of disturbances four times as many, for a ratio of two cells varies more")
	flag.Parse()
	debug.SetGCPercent(400) // much garbage, little memory: a fifth of the time
	for _, t := range []struct {
		name  string
		print func()
	}{
		{"seed4", func() { sim.Compare(os.Stdout, sim.Seed4(), 3000, *seeds) }},
		{"unequal16", func() { sim.Compare(os.Stdout, sim.Unequal16(), 3000, *seeds) }},
		{"mesh100", func() { sim.Compare(os.Stdout, sim.Mesh100(), 4000, *seeds) }},
		{"robust", func() {
			sim.Robust(os.Stdout, sim.Seed4(), 1500, 4**seeds)
			sim.Robust(os.Stdout, sim.Unequal16(), 1500, 4**seeds)
		}},
		{"herding", func() { sim.Herding(os.Stdout, 1000, *seeds) }},
	} {
		if *only == "" || *only == t.name {
			t.print()
		}
	}
}
