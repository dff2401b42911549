package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Watcher is what the stream of events needs of membership; *mesh.Mesh is one.
type Watcher interface {
	// Watch returns the newest View and a channel that is closed when there is
	// a newer one.
	Watch() (*mesh.View, <-chan struct{})
}

const (
	// maxStreams bounds the pages that are open at once.
	maxStreams = 16
	// eventSpacing is the least time between two pictures: a person sees no
	// more, and a busy mesh of 50 would keep a browser busy with less.
	eventSpacing = 500 * time.Millisecond
	// beatEvery is how often a stream without news says that it is alive, so
	// that the page can tell a quiet mesh from a broken connection.
	beatEvery = 5 * time.Second
	// writeLimit is how long a reader may take for one event.
	writeLimit = 10 * time.Second
)

// EventsConfig makes Events.
type EventsConfig struct {
	Mesh Watcher
	// Requests is what runs and what has ended after the first since ones; nil:
	// the stream does not tell.
	Requests func(since uint64) (running, ended []router.Record, ends uint64)
	Cluster  string
	Endpoint string // of clients, for people
	Version  string
}

// Events serves /mesh/v1/events: server-sent events (WHATWG HTML, section 9.2)
// named "picture", each a whole [Picture], whenever the mesh changes but at
// most twice a second, "requests", each a [Requests] with all that runs and
// those that have ended since the last one, and "beat" when nothing changed for
// a while. It starts no goroutine; Close ends the streams that run, for they never end by
// themselves and a server that waits for them would not stop.
type Events struct {
	config EventsConfig
	places chan struct{}
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	made encoded
}

// encoded is a Picture ready to send: all readers of one moment share it.
type encoded struct {
	generation uint64
	second     int64
	data       []byte
}

// NewEvents makes the handler.
func NewEvents(c EventsConfig) *Events {
	return &Events{config: c, places: make(chan struct{}, maxStreams), closed: make(chan struct{})}
}

// Close ends all streams and refuses new ones. It may be called more than once.
func (e *Events) Close() { e.once.Do(func() { close(e.closed) }) }

// encode is the newest picture and a channel that is closed when there is a
// newer one.
func (e *Events) encode(now time.Time) ([]byte, <-chan struct{}) {
	v, changed := e.config.Mesh.Watch()
	e.mu.Lock()
	defer e.mu.Unlock()
	if second := now.Unix(); e.made.data == nil || e.made.generation != v.Generation || e.made.second != second {
		c := &e.config
		data, err := json.Marshal(PictureOf(v, c.Cluster, c.Endpoint, c.Version, now))
		if err != nil { // floats that are not numbers; the next one may be better
			data = []byte("{}")
		}
		e.made = encoded{generation: v.Generation, second: second, data: data}
	}
	return e.made.data, changed
}

func (e *Events) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	default:
		w.Header().Set("Retry-After", "10")
		write(w, http.StatusServiceUnavailable, problem{strconv.Itoa(maxStreams) + " pages are open already"})
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx in front would hold events back
	w.WriteHeader(http.StatusOK)
	s := stream{w: w, control: http.NewResponseController(w)}
	if s.send("retry: 2000\n\n") != nil {
		return
	}
	e.run(req, &s)
}

// run sends pictures until the reader or the node goes.
func (e *Events) run(req *http.Request, s *stream) {
	var last []byte
	var sent time.Time
	traffic := traffic{events: e}
	for {
		now := time.Now()
		data, changed := e.encode(now)
		var err error
		if !bytes.Equal(data, last) {
			err = s.event("picture", data)
			last, sent = data, now
		}
		if data := traffic.next(now); data != nil && err == nil {
			err = s.event("requests", data)
			sent = now
		}
		if now.Sub(sent) >= beatEvery && err == nil {
			err = s.event("beat", []byte(strconv.FormatInt(now.Unix(), 10)))
			sent = now
		}
		if err != nil || !e.pause(req, eventSpacing, nil) {
			return
		}
		// Once a second in any case: silence is news that no View brings.
		if !e.pause(req, time.Second-eventSpacing, changed) {
			return
		}
	}
}

// traffic follows the requests of this node's clients for one reader.
type traffic struct {
	events *Events
	told   bool   // the first event was sent
	open   bool   // the last one had something that ran
	ends   uint64 // requests that had ended by then
}

// next is what has changed as JSON, nil when nothing has: something that runs
// always does.
func (t *traffic) next(now time.Time) []byte {
	c := &t.events.config
	if c.Requests == nil {
		return nil
	}
	running, ended, ends := c.Requests(t.ends)
	if t.told && !t.open && len(running)+len(ended) == 0 {
		return nil
	}
	t.told, t.open, t.ends = true, len(running) > 0, ends
	v, _ := c.Mesh.Watch()
	doc := requestsOf(v, running, ended, now)
	data, err := json.Marshal(doc)
	if err != nil {
		return nil // a rate that is no number; the next one may be better
	}
	return data
}

// pause waits for d or until early is closed; false: the stream is over.
func (e *Events) pause(req *http.Request, d time.Duration, early <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-e.closed:
		return false
	case <-req.Context().Done():
		return false
	case <-early:
	case <-t.C:
	}
	return true
}

// stream writes events to one reader.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// event sends data, which has no line breaks.
func (s *stream) event(name string, data []byte) error {
	s.buf.Reset()
	s.buf.WriteString("event: " + name + "\ndata: ")
	s.buf.Write(data)
	s.buf.WriteString("\n\n")
	return s.send(s.buf.String())
}

func (s *stream) send(text string) error {
	// A reader that stopped reading must not hold its place for ever. Writers
	// without deadlines are those of tests.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
