package proc

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Output collects what a program writes. It is safe for concurrent use; the
// zero Output is ready.
type Output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed by the next Write; nil when nobody waits
}

// Write appends b and wakes those who wait.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.buf.Write(b)
}

// String is everything written so far.
func (o *Output) String() string {
	text, _ := o.look()
	return text
}

func (o *Output) look() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more == nil {
		o.more = make(chan struct{})
	}
	return o.buf.String(), o.more
}

// Await returns once the output holds text, or with an error when ctx ends
// first. A program that exits does not end the wait: bound it by ctx.
func (o *Output) Await(ctx context.Context, text string) error {
	_, err := o.AwaitMatch(ctx, regexp.MustCompile(regexp.QuoteMeta(text)))
	return err
}

// AwaitMatch is Await for an expression; it returns the first match and its
// submatches.
func (o *Output) AwaitMatch(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	for {
		all, more := o.look()
		if match := re.FindStringSubmatch(all); match != nil {
			return match, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("proc: waiting for %q in the output: %w", re, context.Cause(ctx))
		}
	}
}

// tail is at most the last n bytes, from the start of a line where there is one.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	if _, rest, ok := strings.Cut(s, "\n"); ok {
		s = rest
	}
	return "...\n" + s
}
