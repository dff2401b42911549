package wire

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// feed writes text in chunks of n bytes (0: at once) and returns the frames,
// the rest included.
func feed(s *Scanner, text []byte, n int) (frames []Frame) {
	take := func(f Frame) {
		f.Raw = bytes.Clone(f.Raw)
		frames = append(frames, f)
	}
	for len(text) > 0 {
		p := text
		if n > 0 {
			p = text[:min(n, len(text))]
		}
		text = text[len(p):]
		own := bytes.Clone(p)
		if len(text)%3 > 0 { // now so, now so
			s.Lend(own)
		} else if m, err := s.Write(own); m != len(p) || err != nil {
			panic(fmt.Sprint(m, err))
		} else {
			clear(own) // the scanner may not keep what it was given
		}
		for f, ok := s.Next(); ok; f, ok = s.Next() {
			take(f)
		}
		clear(own) // nor what it was lent, now
	}
	if f, ok := s.Rest(); ok {
		take(f)
	}
	return frames
}

func join(frames []Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f.Raw...)
	}
	return b
}

func TestScanner(t *testing.T) {
	tests := []struct {
		name    string
		framing Framing
		text    string
		want    []string // a piece begins with ~
	}{
		{"lines", NDJSON, "{}\n{\"a\":1}\r\n", []string{"{}\n", "{\"a\":1}\r\n"}},
		{"no last break", NDJSON, "{}\n{}", []string{"{}\n", "~{}"}},
		{"blank lines", NDJSON, "\n\n{}\n", []string{"\n", "\n", "{}\n"}},
		{"events", SSE, "data: a\n\nevent: x\ndata: b\n\n", []string{"data: a\n\n", "event: x\ndata: b\n\n"}},
		{"events with CR LF", SSE, "data: a\r\n\r\ndata: b\n\r\ndata: c\r\n\n", []string{"data: a\r\n\r\n", "data: b\n\r\n", "data: c\r\n\n"}},
		{"blank events", SSE, "\n\r\n: ping\n\n", []string{"\n", "\r\n", ": ping\n\n"}},
		{"CR in a line ends nothing", SSE, "data: a\rb\n\rx\n\n", []string{"data: a\rb\n\rx\n\n"}},
		{"cut event", SSE, "data: a\n\ndata: b\n", []string{"data: a\n\n", "~data: b\n"}},
		{"nothing", SSE, "", nil},
	}
	for _, tt := range tests {
		for n := range 4 {
			t.Run(fmt.Sprint(tt.name, " by ", n), func(t *testing.T) {
				var got []string
				for _, f := range feed(NewScanner(tt.framing, 0), []byte(tt.text), n) {
					mark := ""
					if f.Partial {
						mark = "~"
					}
					got = append(got, mark+string(f.Raw))
				}
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestScannerPassesHugeFramesOn(t *testing.T) {
	const most, write = 1000, 64
	huge := `{"response":"` + strings.Repeat("x", 50*most) + `","done":true}`
	for _, tt := range []struct {
		framing     Framing
		before, end string
	}{{NDJSON, "", "\n"}, {SSE, "data: ", "\n\n"}, {SSE, "data: ", "\r\n\r\n"}} {
		small := tt.before + `{"response":"a"}` + tt.end
		text := small + tt.before + huge + tt.end + small
		s := NewScanner(tt.framing, most)
		var got []byte
		pieces, whole := 0, 0
		for rest := []byte(text); len(rest) > 0; {
			p := rest[:min(write, len(rest))]
			rest = rest[len(p):]
			s.Write(p)
			for f, ok := s.Next(); ok; f, ok = s.Next() {
				got = append(got, f.Raw...)
				if f.Partial {
					pieces++
					if c := f.Inspect(Generate); !c.Malformed || c.Done {
						t.Fatalf("a piece is no value: %+v", c)
					}
				} else {
					whole++
				}
			}
			if s.Buffered() > most {
				t.Fatalf("%d bytes held back", s.Buffered())
			}
			if cap(s.buf) > 4*(most+write) {
				t.Fatalf("a buffer of %d bytes for frames of %d", cap(s.buf), most)
			}
		}
		if string(got) != text || whole != 2 || pieces < 10 {
			t.Errorf("%q: %d of %d bytes, %d whole frames, %d pieces", tt.end, len(got), len(text), whole, pieces)
		}
	}
}

// A piece may look like a whole value; it is none.
func TestPieceIsNotRead(t *testing.T) {
	s := NewScanner(NDJSON, 4)
	s.Write([]byte(`[12345,`))
	s.Next()
	s.Write([]byte(`{"done":true}`))
	if f, ok := s.Next(); !ok || !f.Partial || f.Inspect(Generate).Done {
		t.Errorf("%+v", f)
	}
	s.Write([]byte("]\n{\"done\":true}"))
	if f, ok := s.Next(); !ok || !f.Partial || string(f.Raw) != "]\n" {
		t.Errorf("%+v", f)
	}
	if f, ok := s.Rest(); !ok || !f.Inspect(Generate).Done {
		t.Errorf("a last line without line break is whole: %+v", f)
	}
}

func TestScannerForgetsAHugeBuffer(t *testing.T) {
	s := NewScanner(NDJSON, 0)
	s.Write(append(bytes.Repeat([]byte("x"), 1<<20), '\n'))
	if f, ok := s.Next(); !ok || len(f.Raw) != 1<<20+1 {
		t.Fatal("no frame")
	}
	s.Write([]byte("{}\n"))
	if cap(s.buf) > 64<<10 {
		t.Errorf("still holds %d bytes", cap(s.buf))
	}
}

func FuzzScanner(f *testing.F) {
	for _, name := range goldens(f) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, 7, 100, strings.HasSuffix(name, ".sse"))
	}
	f.Add([]byte("\r\n\r\n\n\n\r\r\n"), 1, 2, true)
	f.Add([]byte("data: a\rb\n\rx\n\n"), 3, 1, true)
	f.Fuzz(func(t *testing.T, text []byte, n, most int, sse bool) {
		framing, sep := NDJSON, "\n"
		if sse {
			framing, sep = SSE, "\n\n"
		}
		n, most = max(n, 1)%64+1, max(most, 1)%256+1
		frames := feed(NewScanner(framing, most), text, n)
		if got := join(frames); !bytes.Equal(got, text) {
			t.Fatalf("frames %q are not the input %q", got, text)
		}
		whole := feed(NewScanner(framing, 0), text, 0)
		if got := join(whole); !bytes.Equal(got, text) {
			t.Fatalf("frames %q are not the input %q", got, text)
		}
		for i, fr := range whole {
			flat := strings.ReplaceAll(string(fr.Raw), "\r\n", "\n")
			if fr.Partial {
				if i != len(whole)-1 || strings.HasSuffix(flat, sep) {
					t.Fatalf("frame %d of %d is partial: %q", i, len(whole), fr.Raw)
				}
			} else if end := strings.Index(flat, sep); end != len(flat)-len(sep) && flat != "\n" {
				t.Fatalf("frame %q", fr.Raw)
			}
			for _, k := range []Kind{Generate, Chat, V1Chat, V1Completions, V1Messages, V1Responses} {
				fr.Inspect(k)
			}
		}
		if most > n+len(text) {
			for i, fr := range frames {
				if !bytes.Equal(fr.Raw, whole[i].Raw) {
					t.Fatalf("by %d bytes frame %d is %q, at once %q", n, i, fr.Raw, whole[i].Raw)
				}
			}
		}
	})
}

func TestFramingOf(t *testing.T) {
	for contentType, want := range map[string]string{
		"application/x-ndjson": "0 true", "text/event-stream; charset=utf-8": "1 true", "Text/Event-Stream": "1 true",
		"application/json; charset=utf-8": "0 false", "": "0 false", "text/plain": "0 false",
	} {
		f, ok := FramingOf(contentType)
		if got := fmt.Sprint(int(f), ok); got != want {
			t.Errorf("%q: %s, want %s", contentType, got, want)
		}
	}
}
