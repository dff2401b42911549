package ollamatest

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string // want is part of the error, "" = none
	}{
		{"whole", " 1a2b-0 1a2b-1 1a2b-2", ""},
		{"first blank trimmed", "1a2b-0 1a2b-1", ""},
		{"one token", " 1a2b-0", ""},
		{"empty", "", "no token"},
		{"lost one", " 1a2b-0 1a2b-2", "1 lost"},
		{"lost three", " 1a2b-0 1a2b-4", "3 lost"},
		{"lost the first", " 1a2b-1 1a2b-2", "1 lost"},
		{"doubled", " 1a2b-0 1a2b-1 1a2b-1", "again"},
		{"restarted", " 1a2b-0 1a2b-1 1a2b-0", "token 0 again"},
		{"swapped", " 1a2b-0 1a2b-2 1a2b-1", "lost"},
		{"other chain", " 1a2b-0 ffff-1", "chain changes"},
		{"cut token", " 1a2b-0 1a2b", "instead of token 1"},
		{"half token repeated", " 1a2b-0 1a 1a2b-1", "instead"},
		{"missing blank", " 1a2b-01a2b-1", "instead"},
		{"stray text", " 1a2b-0 and so on", "instead"},
		{"error text", `{"error":"x"}`, "instead"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.text)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrSequence)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseAllowsAContinuedSample(t *testing.T) {
	a, err := Parse(" 1a2b-0 1a2b-1 ffff-2")
	if err != nil || a.Tokens != 3 || len(a.Chains) != 2 {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestVerifyCounts(t *testing.T) {
	if err := Verify(" 1a2b-0 1a2b-1", 2); err != nil {
		t.Error(err)
	}
	if err := Verify(" 1a2b-0 1a2b-1", 3); err == nil {
		t.Error("a missing end was not noticed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(" 1a2b-0 1a2b-1")
	f.Add("1a2b-0 ")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		if got := countTokens(strings.TrimPrefix(" "+text, " ")); a.Tokens == 0 || text[0] == ' ' && got != a.Tokens {
			t.Fatalf("%q: %d tokens, the tokenizer says %d", text, a.Tokens, got)
		}
	})
}
