package mesh

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestHelloCheck(t *testing.T) {
	a, b := NewKey(), NewKey()
	open := newHello("home", nil)
	tests := []struct {
		name     string
		own, its hello
		want     error
	}{
		{"both open", open, newHello("home", nil), nil},
		{"itself", open, open, errSelf},
		{"other name", open, newHello("office", nil), ErrOtherCluster},
		{"it has a key", open, newHello("home", []Key{a}), ErrKeyNeeded},
		{"it has none", newHello("home", []Key{a}), open, ErrKeyMissing},
		{"same key", newHello("home", []Key{a}), newHello("home", []Key{a}), nil},
		{"other key", newHello("home", []Key{a}), newHello("home", []Key{b}), ErrWrongKey},
		{"rotating", newHello("home", []Key{a, b}), newHello("home", []Key{b}), nil},
		{"same key, other name", newHello("home", []Key{a}), newHello("office", []Key{a}), ErrOtherCluster},
		{"it has a key, other name", open, newHello("office", []Key{a}), ErrOtherCluster},
		{"it has none, other name", newHello("home", []Key{a}), newHello("office", nil), ErrOtherCluster},
		{"older protocol", open, hello{Protocol: Protocol + 1, Instance: "x", Tags: open.Tags}, ErrProtocol},
	}
	for _, tt := range tests {
		if got := tt.own.check(tt.its); !errors.Is(got, tt.want) || (tt.want == nil) != (got == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestHelloOfAKeyedMeshNamesNothing(t *testing.T) {
	k := NewKey()
	text := string(newHello("secret-lab", []Key{k}).encode())
	if strings.Contains(text, "secret-lab") || strings.Contains(text, k.String()[6:]) {
		t.Errorf("it says %s", text)
	}
}

func TestGreetAndAnswer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	key := NewKey()
	server := newHello("home", []Key{key})
	answered := make(chan error, 1)
	serve := func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var first [1]byte
		if _, err := conn.Read(first[:]); err != nil || first[0] != ourByte {
			answered <- errors.New("no first byte")
			return
		}
		answered <- server.answer(t.Context(), conn)
	}
	go serve()
	if err := newHello("home", []Key{key}).greet(t.Context(), ln.Addr().String()); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	go serve()
	if err := newHello("home", nil).greet(t.Context(), ln.Addr().String()); !errors.Is(err, ErrKeyNeeded) {
		t.Errorf("got %v", err)
	}
	if err := <-answered; !errors.Is(err, ErrKeyMissing) {
		t.Errorf("the other side saw %v", err)
	}
	// A server that takes the connection and says nothing.
	go func() {
		if conn, err := ln.Accept(); err == nil {
			conn.Close()
		}
	}()
	begin := time.Now()
	if err := server.greet(t.Context(), ln.Addr().String()); !errors.Is(err, ErrNoMesh) {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
}

func FuzzHello(f *testing.F) {
	f.Add(newHello("home", nil).encode())
	f.Add(newHello("home", []Key{NewKey()}).encode())
	f.Add([]byte{0xff, 0xff, '{'})
	own := newHello("home", nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if h.Protocol == 0 || len(h.Tags) == 0 {
			t.Fatalf("accepted %+v", h)
		}
		if err := own.check(h); err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Fatalf("error %q", err)
		}
	})
}
