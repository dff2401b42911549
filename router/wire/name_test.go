package wire

import (
	"slices"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	tests := []struct{ want, names string }{
		{"qwen2.5:latest", "qwen2.5 qwen2.5:latest Qwen2.5 library/qwen2.5 registry.ollama.ai/library/qwen2.5 registry.ollama.ai/library/qwen2.5:latest REGISTRY.OLLAMA.AI/Library/QWEN2.5:LATEST https://registry.ollama.ai/library/qwen2.5"},
		{"qwen2.5:72b", "qwen2.5:72b QWEN2.5:72B library/qwen2.5:72b"},
		{"user/m:latest", "user/m user/m:latest registry.ollama.ai/user/m User/M"},
		{"hf.co/user/m:q4_k_m", "hf.co/user/m:Q4_K_M hf.co/User/M:q4_k_m"},
		{"hf.co/library/m:latest", "hf.co/library/m"},
		{"localhost:5000/library/m:latest", "localhost:5000/library/m http://localhost:5000/library/m"},
		{"m:local", "m:local"},
		{"m:120b-cloud", "m:120b-cloud M:120B-Cloud"},
		{"m@sha256:ABC", "m@sha256:ABC"},
		{"sha256:abc", "sha256:abc"},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		for name := range strings.FieldsSeq(tt.names) {
			if got := Canonical(name); got != tt.want {
				t.Errorf("%q: got %q, want %q", name, got, tt.want)
			}
			if got := Canonical(" " + name + "\n"); got != tt.want {
				t.Errorf("%q with white space: got %q, want %q", name, got, tt.want)
			}
		}
		if seen[tt.want] {
			t.Errorf("%q twice", tt.want)
		}
		seen[tt.want] = true
	}
	if got := Canonical(""); got != "" {
		t.Errorf("empty: %q", got)
	}
	if got := Canonical("\u212aimi"); got == "kimi:latest" {
		t.Error("the Kelvin sign is no letter of a valid name")
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"", "a", "A:B", "library/library/x", "registry.ollama.ai/registry.ollama.ai/library/x", "a/b/c/d", "://", "a:", ":a", "a/:b", "https://a/b/c:d", "İ", "m:x:local"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		c := Canonical(name)
		if again := Canonical(c); again != c {
			t.Fatalf("%q: %q, then %q", name, c, again)
		}
		if len(c) > len(name)+len(":latest") {
			t.Fatalf("%q: %q", name, c)
		}
		IsCloud(name)
		Near(name, []string{name, c, "tiny:latest"})
	})
}

func TestSource(t *testing.T) {
	tests := []struct {
		name, base string
		source     Source
		cloud      bool
	}{
		{"m", "m", AnySource, false},
		{"m:7b", "m:7b", AnySource, false},
		{"m:cloud", "m", CloudSource, true},
		{"m:CLOUD ", "m", CloudSource, true},
		{"m:120b-cloud", "m:120b", CloudSource, true},
		{"m:120b-Cloud", "m:120b", CloudSource, true},
		{"m:local", "m", LocalSource, false},
		{"m:7b:local", "m:7b", LocalSource, false},
		{"m:120b-cloud:local", "m:120b-cloud", LocalSource, true},
		{"m:cloud:local", "m:cloud", LocalSource, true},
		{"m-cloud", "m-cloud", AnySource, false},
		{"cloud", "cloud", AnySource, false},
		{"m:cloudy", "m:cloudy", AnySource, false},
		{"host:5000/u/m-cloud", "host:5000/u/m-cloud", AnySource, false},
		{"", "", AnySource, false},
		{":cloud", "", CloudSource, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base, source := SplitSource(tt.name)
			if base != tt.base || source != tt.source || IsCloud(tt.name) != tt.cloud {
				t.Errorf("got %q %v %v, want %q %v %v", base, source, IsCloud(tt.name), tt.base, tt.source, tt.cloud)
			}
		})
	}
}

func TestNear(t *testing.T) {
	have := []string{"qwen2.5:72b", "qwen2.5:7b", "qwen2.5-coder:7b", "llama3.2:latest", "mistral:latest", "hf.co/u/qwen:q4", "nomic-embed-text:latest"}
	tests := []struct {
		name string
		want []string
	}{
		{"qwen2.5", []string{"qwen2.5:72b", "qwen2.5:7b", "qwen2.5-coder:7b"}},
		{"qwen2.5:73b", []string{"qwen2.5:72b", "qwen2.5:7b", "qwen2.5-coder:7b"}},
		{"qwen", []string{"qwen2.5-coder:7b", "qwen2.5:72b", "qwen2.5:7b"}},
		{"Mistrall", []string{"mistral:latest"}},
		{"llama3.1", []string{"llama3.2:latest"}},
		{"lama3", []string(nil)},
		{"nomic", []string{"nomic-embed-text:latest"}},
		{"gemma", nil},
		{"", nil},
		{strings.Repeat("q", 1000), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Near(tt.name, have); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	many := make([]string, 50)
	for i := range many {
		many[i] = "m:" + strings.Repeat("x", i+1)
	}
	if got := Near("m", many); len(got) != nearMax {
		t.Errorf("%d hints, want %d", len(got), nearMax)
	}
	if got := Near("tiny", []string{"tiny:latest", "tiny:latest"}); !slices.Equal(got, []string{"tiny:latest"}) {
		t.Errorf("a name on two nodes: %q", got)
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"ab", "ba", 2}, {"abcdef", "uvwxyz", 4},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b, 3); got != tt.want {
			t.Errorf("%q %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a, 3); got != tt.want {
			t.Errorf("%q %q: got %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
