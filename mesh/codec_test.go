package mesh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fullLoad() *Load {
	return &Load{
		Node: idOf("node"), Incarnation: uint64(epoch.UnixNano()), Seq: 77,
		Up: true, Draining: true, Foreign: true, Running: 3, Waiting: 200, Written: 123_456, Trouble: 7,
		FreeVRAM: 24 << 30, FreeRAM: 64 << 30, FreeDisk: 2 << 40,
		Models: []ModelLoad{
			{
				Key: "llama3.3:70b-instruct-q4_K_M", Resident: true, Size: 43 << 30, SizeVRAM: 40 << 30, Context: 8192,
				Expires: epoch.Add(5 * time.Minute), Slots: 4, Running: 3, Waiting: 2, Start: 1.5, Decode: 18.25,
				Prefill: 900, Slope: 0.125, Cold: 31.5, Output: 300, Samples: 12, Partial: true,
			},
			{Key: "qwen3:8b", Loading: true, Decode: 75.5},
			{Key: "x", Cold: 2},
		},
	}
}

func TestLoadRoundTrip(t *testing.T) {
	tests := []struct {
		name string
		load *Load
	}{
		{"full", fullLoad()},
		{"empty", &Load{Node: idOf("a")}},
		{"extremes", &Load{Node: idOf("a"), Incarnation: math.MaxUint64, Seq: math.MaxUint64, Running: maxCount, FreeDisk: math.MaxUint64}},
		{"expired model", &Load{Node: idOf("a"), Models: []ModelLoad{{Key: "k", Expires: epoch.Add(-time.Hour)}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := EncodeLoad(tt.load, epoch, LoadDatagram)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeLoad(b, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.load) {
				t.Errorf("got  %+v\nwant %+v", got, tt.load)
			}
			text, err := EncodeLoadText(tt.load, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(text, " ,;\"\r\n") {
				t.Errorf("text %q does not fit into a header", text)
			}
			if got, err := DecodeLoadText(text, epoch); err != nil || !reflect.DeepEqual(got, tt.load) {
				t.Errorf("by text: %+v, %v", got, err)
			}
		})
	}
	t.Logf("a full report of three models takes %d bytes", len(must(EncodeLoad(fullLoad(), epoch, LoadDatagram))))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Clocks of two machines need not agree: times travel as distances.
func TestLoadTimesFollowTheReadersClock(t *testing.T) {
	b := must(EncodeLoad(fullLoad(), epoch, LoadDatagram))
	reader := epoch.Add(-3 * 365 * 24 * time.Hour)
	l := must(DecodeLoad(b, reader))
	if got := l.Models[0].Expires.Sub(reader); got != 5*time.Minute {
		t.Errorf("expires in %v", got)
	}
	// "Never" is the year 2318 in Ollama.
	never := &Load{Node: idOf("a"), Models: []ModelLoad{{Key: "k", Expires: time.Date(2318, 1, 1, 0, 0, 0, 0, time.UTC)}}}
	l = must(DecodeLoad(must(EncodeLoad(never, epoch, LoadDatagram)), epoch))
	if got := l.Models[0].Expires; got.Year() < 2100 {
		t.Errorf("a model that stays for ever expires in %v", got)
	}
}

func TestLoadFitsItsLimit(t *testing.T) {
	l := fullLoad()
	l.Models = nil
	for i := range 200 {
		m := ModelLoad{Key: fmt.Sprintf("registry.example/team/model-%03d:q4", i), Decode: float64(i + 1), Prefill: 100, Cold: 3, Samples: 9}
		m.Resident = i == 150 || i == 151
		if i == 199 {
			m.Waiting = 9
		}
		l.Models = append(l.Models, m)
	}
	heard := map[string]bool{}
	for seq := range uint64(200) {
		l.Seq = seq
		b := must(EncodeLoad(l, epoch, LoadDatagram))
		if len(b) > LoadDatagram {
			t.Fatalf("%d bytes", len(b))
		}
		got := must(DecodeLoad(b, epoch))
		if got.Dropped != 200-len(got.Models) || got.Dropped == 0 {
			t.Fatalf("dropped %d of 200, %d came", got.Dropped, len(got.Models))
		}
		for _, i := range []int{150, 151, 199} {
			if got.Model(l.Models[i].Key) == nil {
				t.Fatalf("report %d leaves out a model that is in use", seq)
			}
		}
		for _, m := range got.Models {
			heard[m.Key] = true
		}
	}
	if len(heard) != 200 {
		t.Errorf("of 200 models only %d were ever heard of", len(heard))
	}
	if got := must(DecodeLoad(must(EncodeLoad(l, epoch, LoadWhole)), epoch)); len(got.Models) != 200 || got.Dropped != 0 {
		t.Errorf("the whole has %d models, dropped %d", len(got.Models), got.Dropped)
	}
	if _, err := EncodeLoad(l, epoch, 40); err == nil {
		t.Error("a report in 40 bytes")
	}
	l.Node = "somebody"
	if _, err := EncodeLoad(l, epoch, LoadDatagram); err == nil {
		t.Error("a report of nobody")
	}
}

func TestLoadWritesNothingImpossible(t *testing.T) {
	l := &Load{Node: idOf("a"), Running: -5, Waiting: math.MaxInt, Models: []ModelLoad{{
		Key: "k", Context: -1, Decode: math.NaN(), Prefill: math.Inf(1), Slope: -3, Start: math.MaxFloat64,
	}, {Key: strings.Repeat("k", maxKey+1)}}}
	got := must(DecodeLoad(must(EncodeLoad(l, epoch, LoadHeader)), epoch))
	want := &Load{Node: idOf("a"), Waiting: maxCount, Dropped: 1, Models: []ModelLoad{{Key: "k"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// A later version may add fields to a record and to the end.
func TestLoadSkipsWhatItDoesNotKnow(t *testing.T) {
	l := &Load{Node: idOf("a"), Seq: 1, Models: []ModelLoad{{Key: "k", Running: 2}}}
	b := must(EncodeLoad(l, epoch, LoadDatagram))
	b = append(b, "from the future"...)
	if got, err := DecodeLoad(b, epoch); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("trailing bytes: %+v, %v", got, err)
	}
	rec := encodeModel(&l.Models[0], epoch)
	// The mask sits behind the key; set a bit that nobody knows and add its field.
	mask, n := binary.Uvarint(rec[2:])
	longer := binary.AppendUvarint(bytes.Clone(rec[:2]), mask|1<<40)
	longer = append(append(longer, rec[2+n:]...), 0xff, 0xff)
	m, err := decodeModel(longer, epoch)
	if err != nil || m.Running != 2 {
		t.Errorf("unknown field: %+v, %v", m, err)
	}
}

func TestDecodeLoadRefuses(t *testing.T) {
	good := must(EncodeLoad(fullLoad(), epoch, LoadDatagram))
	for n := range len(good) {
		if _, err := DecodeLoad(good[:n], epoch); !errors.Is(err, ErrLoad) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(good), err)
		}
	}
	other := bytes.Clone(good)
	other[0] = 2
	many := append(bytes.Clone(good[:26]), 0, 0, 0, 0, 0, 0, 0)
	many = binary.AppendUvarint(many, maxLoadModels+1)
	huge := append(bytes.Clone(good[:26]), 0, 0, 0, 0, 0, 0, 0)
	huge = append(binary.AppendUvarint(huge, 1), 0xff, 0xff, 0xff, 0xff, 0x0f)
	for name, b := range map[string][]byte{"version": other, "number of models": many, "size of a model": huge} {
		if _, err := DecodeLoad(b, epoch); !errors.Is(err, ErrLoad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, rec := range map[string][]byte{
		"no name":       {0, 0},
		"not a number":  append([]byte{1, 'k'}, append(binary.AppendUvarint(nil, hasDecode), 0x7f, 0xc0, 0, 0)...),
		"negative rate": append([]byte{1, 'k'}, append(binary.AppendUvarint(nil, hasDecode), 0xbf, 0x80, 0, 0)...),
		"missing field": append([]byte{1, 'k'}, binary.AppendUvarint(nil, hasSize)...),
	} {
		if _, err := decodeModel(rec, epoch); !errors.Is(err, ErrLoad) {
			t.Errorf("model with %s: %v", name, err)
		}
	}
	for _, text := range []string{"", "!", strings.Repeat("A", 20000), "AQ=="} {
		if _, err := DecodeLoadText(text, epoch); !errors.Is(err, ErrLoad) {
			t.Errorf("text %.10q: %v", text, err)
		}
	}
}

func FuzzDecodeLoad(f *testing.F) {
	f.Add(must(EncodeLoad(fullLoad(), epoch, LoadDatagram)))
	f.Add(must(EncodeLoad(&Load{Node: idOf("a")}, epoch, LoadDatagram)))
	f.Add([]byte{1, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeLoad(b, epoch)
		if err != nil {
			if l != nil || !errors.Is(err, ErrLoad) {
				t.Fatalf("got %v and %v", l, err)
			}
			return
		}
		if !l.Node.Valid() || l.Running < 0 || len(l.Models) > len(b) {
			t.Fatalf("accepted %+v", l)
		}
		// What was accepted can be passed on, and means the same.
		again, err := EncodeLoad(l, epoch, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		l2, err := DecodeLoad(again, epoch)
		if err != nil {
			t.Fatal(err)
		}
		l2.Dropped = l.Dropped
		if len(l2.Models) != len(l.Models) || l2.Seq != l.Seq || l2.Node != l.Node {
			t.Fatalf("got %+v, want %+v", l2, l)
		}
	})
}

func FuzzSupersedes(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint64(1), uint64(2), uint64(2), uint64(0))
	f.Fuzz(func(t *testing.T, i1, s1, i2, s2, i3, s3 uint64) {
		loads := []*Load{{Incarnation: i1, Seq: s1}, {Incarnation: i2, Seq: s2}, {Incarnation: i3, Seq: s3}}
		merge := func(order ...int) *Load {
			var have *Load
			for _, k := range order {
				if loads[k].Supersedes(have) {
					have = loads[k]
				}
			}
			return have
		}
		first := merge(0, 1, 2)
		for _, order := range [][]int{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}, {0, 0, 1, 1, 2, 2, 0}} {
			if got := merge(order...); got.Incarnation != first.Incarnation || got.Seq != first.Seq {
				t.Fatalf("order %v gives %d/%d, want %d/%d", order, got.Incarnation, got.Seq, first.Incarnation, first.Seq)
			}
		}
	})
}

func BenchmarkLoadCodec(b *testing.B) {
	for _, n := range []int{1, 4, 16, 256, 500} {
		l := fullLoad()
		base := l.Models[0]
		l.Models = nil
		for i := range n {
			m := base
			m.Key = fmt.Sprintf("model-%d:8b", i)
			l.Models = append(l.Models, m)
		}
		b.Run(fmt.Sprintf("encode/models=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodeLoad(l, epoch, LoadDatagram); err != nil {
					b.Fatal(err)
				}
			}
		})
		data := must(EncodeLoad(l, epoch, LoadWhole))
		b.Run(fmt.Sprintf("decode/models=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := DecodeLoad(data, epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	for _, n := range []int{16, 256, 500} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			s := newState(idOf("self"), &Member{ID: idOf("self"), Self: true, Status: Alive})
			catalog := Catalog{}
			for i := range 10 {
				catalog = append(catalog, Model{Key: fmt.Sprintf("model-%d:8b", i)})
			}
			var list []sighting
			for i := range n - 1 {
				id := NodeID(fmt.Sprintf("%s%s", strings.Repeat("b", 20), string([]byte{'a' + byte(i/676%26), 'a' + byte(i/26%26), 'a' + byte(i%26), 'a', 'a', 'a'})))
				list = append(list, sighting{ID: id, Status: Alive, Info: Info{Hostname: fmt.Sprintf("host-%d", i)}})
			}
			s.sighted(epoch, 1, list)
			for _, r := range s.members {
				c := *r.member
				c.Card = &Card{Catalog: catalog}
				s.put(r, &c)
			}
			some := s.view(epoch).Members()[1].ID
			seq := uint64(0)
			b.Run("loads", func(b *testing.B) { // what happens many times a second
				b.ReportAllocs()
				for b.Loop() {
					seq++
					s.heard(epoch, &Load{Node: some, Incarnation: 1, Seq: seq})
					if v := s.view(epoch); len(v.Members()) != n {
						b.Fatal(len(v.Members()))
					}
				}
			})
			b.Run("roster", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.last = nil
					if v := s.view(epoch); len(v.Members()) != n {
						b.Fatal(len(v.Members()))
					}
				}
			})
		})
	}
}

func TestRateOfAModelTravels(t *testing.T) {
	l := &Load{Node: idOf("a"), Incarnation: 1, Seq: 1, Models: []ModelLoad{{Key: "m", Alias: true, Output: 7, Rate: 0.25}}}
	b, err := EncodeLoad(l, time.Unix(1, 0), LoadDatagram)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeLoad(b, time.Unix(2, 0))
	if err != nil || len(got.Models) != 1 || got.Models[0].Rate != 0.25 || got.Models[0].Output != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}
