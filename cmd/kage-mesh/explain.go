package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) explainCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:      "explain",
		Usage:     "say where a request would go, or went, and why",
		ArgsUsage: "MODEL",
		Description: "Shows every node: those that could serve the request in the order in which they\n" +
			"would be asked, with what each is expected to take in seconds, and the others\n" +
			"with the reason.\n\n" +
			"   WAIT     until a place is free\n" +
			"   LOAD     to bring the model into memory\n" +
			"   PREFILL  to read the prompt\n" +
			"   DECODE   to write the answer\n" +
			"   NETWORK  there and back\n" +
			"   HARM     delay that it would cause to requests already there\n" +
			"   TROUBLE  price of the node's recent failures\n\n" +
			"--request explains a request that this node has served, by the X-Kage-Request-Id\n" +
			"of its answer (or 'last'), with the picture that it was placed by.",
		Flags: []cli.Flag{
			apiFlag(), jsonFlag(),
			&cli.IntFlag{Name: "prompt-tokens", Usage: "length of the prompt"},
			&cli.IntFlag{Name: "output-tokens", Usage: "num_predict or max_tokens of the request"},
			&cli.IntFlag{Name: "num-ctx", Usage: "num_ctx of the request"},
			&cli.BoolFlag{Name: "embedding", Usage: "the request writes no text"},
			&cli.StringFlag{Name: "id", Usage: "the request's `ID`, which decides near ties"},
			&cli.StringFlag{Name: "request", Usage: "explain the request with this `ID`, or the 'last' one"},
		},
		Action: e.explain,
	})
}

func (e environment) explain(c *cli.Context) error {
	q := admin.Question{
		Model: c.Args().First(), PromptTokens: c.Int("prompt-tokens"), OutputTokens: c.Int("output-tokens"),
		Context: c.Int("num-ctx"), Embedding: c.Bool("embedding"), ID: c.String("id"), Request: c.String("request"),
	}
	switch {
	case c.NArg() > 1, q.Model == "" && q.Request == "":
		return usage("as in 'kage-mesh explain llama3.2', or 'kage-mesh explain --request last'", "explain wants one model, got %d", c.NArg())
	case q.Model != "" && q.Request != "":
		return usage("leave one of them out", "explain takes a model or --request, not both")
	case q.PromptTokens < 0 || q.OutputTokens < 0 || q.Context < 0:
		return usage("see 'kage-mesh explain --help'", "a number of tokens cannot be below 0")
	}
	client, err := adminClient(c)
	if err != nil {
		return err
	}
	answer, err := client.Explain(c.Context, q)
	if err != nil {
		return adminError(err)
	}
	if c.Bool("json") {
		return e.writeJSON(answer)
	}
	return e.printExplanation(answer)
}

func (e environment) printExplanation(x admin.Explanation) error {
	p := e.paint(e.stdout)
	if r := x.Request; r != nil {
		e.printRecord(*r)
	}
	fmt.Fprintf(e.stdout, "%s · %s", x.Model, plural(x.PromptTokens, "prompt token"))
	if x.OutputTokens > 0 {
		fmt.Fprintf(e.stdout, ", at most %d of output", x.OutputTokens)
	}
	if x.Context > 0 {
		fmt.Fprintf(e.stdout, ", num_ctx %d", x.Context)
	}
	fmt.Fprintln(e.stdout)
	if x.Choice == "" {
		fmt.Fprintf(e.stdout, "%s no node can serve it\n", p.red("✗"))
	} else {
		fmt.Fprintf(e.stdout, "%s goes to %s\n\n", p.green("→"), x.Choice)
		if err := e.printCandidates(x.Nodes); err != nil {
			return err
		}
	}
	var refused [][]string
	for _, v := range x.Nodes {
		if v.Rank == 0 {
			refused = append(refused, []string{v.Node, v.Text})
		}
	}
	if len(refused) == 0 {
		return nil
	}
	fmt.Fprintln(e.stdout)
	return e.table([]string{"REFUSED", "BECAUSE"}, refused)
}

func (e environment) printCandidates(nodes []router.Verdict) error {
	var rows [][]string
	for _, v := range nodes {
		if v.Rank == 0 {
			continue
		}
		fit := v.Fit
		if v.Loaded {
			fit += ", loaded"
		}
		rows = append(rows, []string{
			strconv.Itoa(v.Rank), v.Node, inSeconds(v.Total), inSeconds(v.Wait), inSeconds(v.Load), inSeconds(v.Prefill),
			inSeconds(v.Decode), inSeconds(v.Network), inSeconds(v.Late), inSeconds(v.Harm), inSeconds(v.Trouble), fit,
		})
	}
	return e.table([]string{"#", "NODE", "TOTAL", "WAIT", "LOAD", "PREFILL", "DECODE", "NETWORK", "LATE", "HARM", "TROUBLE", "FIT"}, rows)
}

// printRecord prints what became of a request.
func (e environment) printRecord(r router.Record) {
	fmt.Fprintf(e.stdout, "request %s · %s · %s", r.ID, r.Route, r.Start.Local().Format(time.TimeOnly))
	if r.Outcome == "" {
		fmt.Fprintf(e.stdout, " · runs for %s\n", inSeconds(r.Took))
	} else {
		fmt.Fprintf(e.stdout, " · %s in %s · first byte after %s · %s, %.1f tok/s\n",
			r.Outcome, inSeconds(r.Took), inSeconds(r.First), plural(r.OutputTokens, "token"), r.Rate)
	}
	for i, a := range r.Attempts {
		fmt.Fprintf(e.stdout, "  %d. %s: %s after %s\n", i+1, a.Node, orDash(a.Result), inSeconds(a.Took))
	}
}

// inSeconds writes a time in seconds with a precision that fits its size.
func inSeconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s < 0.9995:
		return fmt.Sprintf("%.0fms", s*1000)
	case s < 100:
		return fmt.Sprintf("%.1fs", s)
	}
	return fmt.Sprintf("%.0fs", s)
}
