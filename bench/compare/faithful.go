package compare

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// faithful checks an answer of an ollamatest server, streamed or not: its text
// is one sequence without gap, and its end mark came.
type faithful struct {
	want int
	body bytes.Buffer
}

func (a *faithful) take(p []byte) { a.body.Write(p) }

func (a *faithful) end(err error) error {
	if err != nil {
		return err
	}
	var text strings.Builder
	done := false
	for line := range bytes.Lines(a.body.Bytes()) {
		var frame struct {
			Response string `json:"response"`
			Done     bool   `json:"done"`
			Error    string `json:"error"`
		}
		if json.Unmarshal(line, &frame) != nil || frame.Error != "" {
			return errSaidError
		}
		text.WriteString(frame.Response)
		done = done || frame.Done
	}
	if !done {
		return errCleanCut
	}
	if parsed, err := ollamatest.Parse(text.String()); err != nil || parsed.Tokens != a.want {
		return errDisorder
	}
	return nil
}
