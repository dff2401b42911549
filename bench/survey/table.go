package survey

import (
	"fmt"
	"io"
	"time"
)

// Markdown prints results as a table.
func Markdown(w io.Writer, results []Result) {
	fmt.Fprintln(w, "| node | model | load | first token | prompt tok/s | answer tok/s | at once | tok/s together | speed-up |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		if r.Error != "" {
			fmt.Fprintf(w, "| %s | %s | failed: %s | | | | | | |\n", r.Node, r.Model, r.Error)
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %d | %s | %s |\n", r.Node, r.Model, span(r.Cold), span(r.TTFT),
			number(r.Prefill), number(r.Decode), r.Parallel, number(r.Together), times(r.SpeedUp))
	}
}

func span(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func number(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", f)
}

func times(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", f)
}
