package backend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// step makes the one look that is most overdue.
func (w *Watcher) step(ctx context.Context, now time.Time) {
	var err error
	switch {
	case !w.next.Up:
		err = w.arrive(ctx, now)
	case !now.Before(w.psAt):
		err = w.lookPS(ctx, now)
	case !now.Before(w.tagsAt):
		err = w.lookTags(ctx, now)
	default:
		w.lookShape(ctx, now) // a model that cannot be shown is no outage
		return
	}
	if err != nil && ctx.Err() == nil {
		w.fail(err, now)
	}
}

// arrive looks for a server that was not there.
func (w *Watcher) arrive(ctx context.Context, now time.Time) error {
	version, err := w.client.Version(ctx)
	if err != nil {
		return err
	}
	loop, err := w.client.Loop(ctx)
	if err != nil {
		return err
	}
	if loop {
		return ErrLoop
	}
	residents, err := w.client.PS(ctx)
	if err != nil {
		return err
	}
	w.next.Up, w.next.Err, w.next.Since, w.next.Version = true, nil, now, version
	w.next.Resident, w.next.Polled, w.psAt, w.asked = residents, now, now.Add(psEvery), now
	w.tags, w.verAt, w.backoff, w.stalls, w.downSaid = nil, now.Add(versionEvery), 0, 0, false
	if err := w.lookTags(ctx, now); err != nil { // publishes
		return err
	}
	w.log.Info("ollama is up", "version", version, "models", len(w.next.Catalog))
	return nil
}

// fail decides what an unanswered question means.
func (w *Watcher) fail(err error, now time.Time) {
	var timeout net.Error
	if w.next.Up && errors.As(err, &timeout) && timeout.Timeout() {
		if w.stalls++; w.stalls < stallsToDown {
			w.psAt = now.Add(psEvery)
			return
		}
	}
	if w.backoff = min(2*w.backoff, downMost); w.backoff == 0 {
		w.backoff = downFirst
	}
	w.psAt = now.Add(w.backoff)
	if w.next.Up {
		w.next.Since = now
	}
	if !w.downSaid {
		w.downSaid = true
		w.log.Warn("ollama is down", "err", err, "addr", w.client.base.Host)
		w.client.CloseIdle() // connections to a dead server are not worth keeping
	}
	w.next.Up, w.next.Err, w.next.Version, w.next.Resident = false, err, "", nil
	w.pending = nil
	w.publish()
}

func (w *Watcher) lookPS(ctx context.Context, now time.Time) error {
	w.asked = now
	residents, err := w.client.PS(ctx)
	if err != nil {
		return err
	}
	w.stalls = 0
	w.psAt = now.Add(psEvery)
	w.next.Resident, w.next.Polled = residents, now
	w.publish()
	return nil
}

func (w *Watcher) lookTags(ctx context.Context, now time.Time) error {
	if !now.Before(w.verAt) {
		version, err := w.client.Version(ctx)
		if err != nil {
			return err
		}
		w.next.Version, w.verAt = version, now.Add(versionEvery)
	}
	body, err := w.client.Tags(ctx)
	if err != nil {
		return err
	}
	w.tagsAt = now.Add(tagsEvery)
	if w.tags != nil && bytes.Equal(body, w.tags) {
		w.want(now)
		return nil
	}
	listed, err := parseTags(body)
	if err != nil {
		return err
	}
	w.tags, w.listed = body, listed
	for digest := range w.shapes {
		if !slices.ContainsFunc(listed, func(m mesh.Model) bool { return m.Digest == digest }) {
			delete(w.shapes, digest)
			delete(w.failed, digest)
		}
	}
	w.want(now)
	w.shaped = now
	w.shape()
	w.publish()
	return nil
}

// want lists the models whose shape is not known and may be asked for. Cloud
// models have none.
func (w *Watcher) want(now time.Time) {
	w.pending = w.pending[:0]
	for i, m := range w.listed {
		if _, known := w.shapes[m.Digest]; known || m.Remote != "" {
			continue
		}
		if at, ok := w.failed[m.Digest]; ok && now.Sub(at) < showAgain {
			continue
		}
		w.pending = append(w.pending, i)
	}
}

// lookShape asks for one shape. The catalog is published when the last one is
// there, or once in a while when there are many, so that a start with a
// hundred models does not announce a hundred catalogs.
func (w *Watcher) lookShape(ctx context.Context, now time.Time) {
	m := w.listed[w.pending[0]]
	w.pending = w.pending[1:]
	if _, known := w.shapes[m.Digest]; !known { // an alias may have brought it
		shape, err := w.client.Show(ctx, m.Name)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.failed[m.Digest] = now
			w.log.Debug("model cannot be shown", "model", m.Key, "err", err)
		default:
			delete(w.failed, m.Digest)
			w.shapes[m.Digest] = shape
		}
	}
	if len(w.pending) == 0 || now.Sub(w.shaped) >= shapesEvery {
		w.shaped = now
		w.shape()
		w.publish()
	}
}

// shape builds the catalog from the listing and the shapes known so far.
func (w *Watcher) shape() {
	catalog := make(mesh.Catalog, len(w.listed))
	families := make(map[string]string, len(w.listed))
	for i, m := range w.listed {
		if s, ok := w.shapes[m.Digest]; ok {
			m = s.with(m)
			if m.Blob != "" {
				families[m.Blob] = s.Family
			} else {
				families[m.Key] = s.Family
			}
		}
		catalog[i] = m
	}
	w.next.Catalog, w.next.Listed, w.next.families = catalog, true, families
}
