package mesh

import (
	"context"
	"sync"
	"sync/atomic"
)

// board is where the loop hangs out the newest View.
type board struct {
	view atomic.Pointer[View]

	mu   sync.Mutex
	next chan struct{} // closed by the next publish
}

func newBoard(v *View) *board {
	b := &board{next: make(chan struct{})}
	b.view.Store(v)
	return b
}

func (b *board) publish(v *View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view.Store(v)
	close(b.next)
	b.next = make(chan struct{})
}

func (b *board) watch() (*View, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view.Load(), b.next
}

// View is the newest picture of the mesh, by one atomic load. It is never nil:
// before Run it shows this node alone.
func (m *Mesh) View() *View { return m.board.view.Load() }

// Watch returns the newest View and a channel that is closed when there is a
// newer one.
func (m *Mesh) Watch() (*View, <-chan struct{}) { return m.board.watch() }

// Wait returns the first View for which ok is true, beginning with the newest;
// ok is called once per View, on the caller's goroutine. When ctx ends first it
// returns the newest View and the cause.
func (m *Mesh) Wait(ctx context.Context, ok func(*View) bool) (*View, error) {
	for {
		v, next := m.board.watch()
		if ok(v) {
			return v, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}
