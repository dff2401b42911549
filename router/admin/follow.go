package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Event is one event of /mesh/v1/events: a picture, requests, or neither for a
// beat.
type Event struct {
	Picture  *Picture
	Requests *Requests
}

// ErrSilent says that a stream of events brought not even a beat.
var ErrSilent = errors.New("admin: the node is silent")

const (
	// silence is two beats of the node missed.
	silence = 2*beatEvery + 2*time.Second
	// maxEvent bounds an event, bytes: a picture of 200 nodes with a hundred
	// models each takes a twentieth of it.
	maxEvent = 32 << 20
)

// Follow reads /mesh/v1/events and calls tell with each event, from its own
// goroutine, until the stream ends. The error says why it did, and is never
// nil; it is the cause of ctx when that has ended.
func (c Client) Follow(ctx context.Context, tell func(Event)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := time.AfterFunc(silence, func() { cancel(ErrSilent) })
	defer dog.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Base, "/")+"/mesh/v1/events", nil)
	if err != nil {
		return err
	}
	client := http.Client{}
	if c.HTTP != nil {
		client.Transport = c.HTTP.Transport // its time limit is for answers that end
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrNotRunning, c.Base, ended(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p problem
		if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p) != nil || p.Error == "" {
			return fmt.Errorf("%w at %s: it answers %s to /mesh/v1/events", ErrNotRunning, c.Base, resp.Status)
		}
		return fmt.Errorf("admin: %s", p.Error)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	name := ""
	for lines.Scan() {
		line := lines.Bytes()
		if text, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(text)
			continue
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		dog.Reset(silence)
		e, err := readEvent(name, data)
		if err != nil {
			return err
		}
		tell(e)
	}
	if err := lines.Err(); err != nil {
		return ended(ctx, err)
	}
	return io.ErrUnexpectedEOF // the node stops
}

// readEvent reads one event; those of a later version are beats.
func readEvent(name string, data []byte) (e Event, err error) {
	switch name {
	case "picture":
		e.Picture = new(Picture)
		err = json.Unmarshal(data, e.Picture)
	case "requests":
		e.Requests = new(Requests)
		err = json.Unmarshal(data, e.Requests)
	}
	if err != nil {
		return Event{}, fmt.Errorf("admin: reading a %s: %w", name, err)
	}
	return e, nil
}

// ended is why something under ctx failed with err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
