package mesh

import (
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// encodedSize is what Serf makes of tags at most: a magic byte and MessagePack.
func encodedSize(tags map[string]string) int {
	n := 1 + 3
	for k, v := range tags {
		n += 3 + len(k) + 3 + len(v)
	}
	return n
}

func fullInfo() Info {
	return Info{
		Protocol: 1, Version: "v1.2.3-0.20261123000000-abcdef", Hostname: "studio", Role: "gpu", PeerPort: 11436, APIPort: 11435,
		GPU: "nvidia", VRAM: 24 << 30, RAM: 64 << 30, Unified: true, Big: true, Ollama: "0.11.4", Draining: true,
		Card: cardDigest([]byte("x")),
	}
}

func TestTagsRoundTrip(t *testing.T) {
	for name, i := range map[string]Info{"full": fullInfo(), "empty": {}, "unicode": {Hostname: "büro-影"}} {
		if got := infoOf(tagsOf(i)); got != i {
			t.Errorf("%s: got %+v, want %+v", name, got, i)
		}
	}
	if got := tagsOf(Info{}); len(got) != 0 {
		t.Errorf("nothing takes %v", got)
	}
}

func TestTagsFitWhateverTheTexts(t *testing.T) {
	long := strings.Repeat("影", 500)
	i := fullInfo()
	i.Version, i.Hostname, i.Role, i.GPU, i.Ollama, i.Card = long, long, long, long, long, long
	i.VRAM, i.RAM, i.Protocol = 1<<64-1, 1<<64-1, 1<<62
	tags := tagsOf(i)
	if n := encodedSize(tags); n > 400 {
		t.Errorf("%d bytes", n)
	}
	for k, v := range tags {
		if !utf8.ValidString(v) {
			t.Errorf("tag %s is cut inside a letter: %q", k, v)
		}
	}
}

func TestMalformedTagsShowWhatIsReadable(t *testing.T) {
	got := infoOf(map[string]string{
		tagHostname: "evil\x1b[31m\nname\xff", tagPeerPort: "zzzzzzzz", tagVRAM: "-1", tagRAM: "!", tagRole: "gpu",
		tagFlags: "xbq", tagProtocol: "1", "unknown": "later version",
	})
	want := Info{Hostname: "evil[31mname", Role: "gpu", Protocol: 1, Big: true}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := infoOf(nil); got != (Info{}) {
		t.Errorf("no tags: %+v", got)
	}
}

func TestInfoFollowsTheCard(t *testing.T) {
	hw := hardware.Inventory{
		Role: hardware.RoleGPU, GPUs: []hardware.GPU{{Vendor: hardware.AMD, Integrated: true}}, Unified: true,
		VRAM: hardware.Bytes{N: 96 << 30, Source: hardware.Detected}, RAM: hardware.Bytes{N: 128 << 30, Source: hardware.Detected},
	}
	c := &Card{Hardware: hw, Ollama: "0.11.4"}
	i := Info{Hostname: "h"}.describe(c, "digest")
	want := Info{
		Hostname: "h", Role: "gpu", GPU: "amd", VRAM: 96 << 30, RAM: 128 << 30, Unified: true,
		Big: hw.Capable72B(), Ollama: "0.11.4", Card: "digest",
	}
	if !reflect.DeepEqual(i, want) {
		t.Errorf("got %+v, want %+v", i, want)
	}
	if got := (Info{Role: "vision"}).describe(c, "d").Role; got != "vision" {
		t.Errorf("the configured role became %q", got)
	}
	if got := (Info{Hostname: "h"}).describe(nil, ""); got != (Info{Hostname: "h"}) {
		t.Errorf("without a card: %+v", got)
	}
}

func FuzzTags(f *testing.F) {
	f.Add("h", "studio", "pp", "8tg", uint64(24<<30))
	f.Add("vr", "\xff\xfe", "f", "ubd", uint64(0))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, n uint64) {
		i := infoOf(map[string]string{k1: v1, k2: v2})
		for _, s := range []string{i.Version, i.Hostname, i.Role, i.GPU, i.Ollama, i.Card} {
			if len(s) > 63 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("text %q", s)
			}
		}
		if i.PeerPort < 0 || i.PeerPort > 65535 || i.APIPort < 0 || i.APIPort > 65535 {
			t.Fatalf("ports %d %d", i.PeerPort, i.APIPort)
		}
		i.VRAM = n
		tags := tagsOf(i)
		if encodedSize(tags) > 512 {
			t.Fatalf("%d bytes", encodedSize(tags))
		}
		if again := infoOf(tags); again != i {
			t.Fatalf("%+v became %+v", i, again)
		}
	})
}
