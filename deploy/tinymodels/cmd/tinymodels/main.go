// Command tinymodels writes the test models: tinymodels [-dir DIR] [NAME ...].
// Without names it writes all of them, with -list it tells what each is for.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/tinymodels"
)

func main() {
	dir := flag.String("dir", ".", "directory to write into")
	list := flag.Bool("list", false, "list the models")
	flag.Parse()
	if err := run(*dir, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(dir string, list bool, names []string) error {
	if !list {
		return tinymodels.Write(dir, names...)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, name := range tinymodels.Names() {
		m, err := tinymodels.Lookup(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\n", m.Name, m.Purpose)
	}
	return w.Flush()
}
