package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// walk passes over text as Parse passes over a value that it does not read.
func walk(text []byte) (ok bool, message string) {
	c := cursor{b: text}
	c.skip()
	switch {
	case c.failed:
		return false, c.syntaxError()
	case c.space() != 0 || c.i < len(c.b):
		return false, "invalid character " + quoteByte(c.b[c.i]) + " after top-level value"
	}
	return true, ""
}

// syntaxOf is what encoding/json says of text: a Decoder, as Ollama uses it, of
// the first value, and Unmarshal of what follows.
func syntaxOf(text []byte) (ok bool, message string) {
	var v json.RawMessage
	err := json.NewDecoder(bytes.NewReader(text)).Decode(&v)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}

var jsonSeeds = []string{
	``, ` `, `{}`, `[]`, `null`, `tru`, `trux`, `nul]`, `-`, `-x`, `01`, `1.`, `1.5e`, `1.5e+`, `1e9x`, `0.`, `-0`,
	`{"a":1,}`, `{"a" 1}`, `{"a":1 "b"}`, `{a:1}`, `[1,]`, `[1 2]`, `[,]`, `{"a":[{"b":null}]}`, `"`, `"\`, `"\x"`,
	`"\u12`, `"\u12g4"`, `"\ud83d\ude00"`, "\"\x01\"", "\"\x7f\xff\"", "\ufeff{}", `{} x`, `{}}`, `[[[]]]]`, "{\"a\":\x00}",
	`{"model":"a"`, `'a'`, `"12345678\"12345678"`, `{"a":"` + strings.Repeat("x", 40) + `\n"}`, "\u00e9", `[1e400]`,
}

func FuzzSyntax(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ok, message := walk(text)
		wantOK, want := syntaxOf(text)
		if ok != wantOK || message != want {
			t.Fatalf("%q: got %v %q, encoding/json says %v %q", text, ok, message, wantOK, want)
		}
	})
}

func TestDepthIsThatOfEncodingJSON(t *testing.T) {
	for _, depth := range []int{maxDepth - 1, maxDepth, maxDepth + 1, 3 * maxDepth} {
		for _, shape := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			inner := "1"
			text := []byte(strings.Repeat(shape[0], depth) + inner + strings.Repeat(shape[1], depth))
			ok, message := walk(text)
			wantOK, want := syntaxOf(text)
			if ok != wantOK || message != want {
				t.Errorf("depth %d of %s: got %v %q, want %v %q", depth, shape[0], ok, message, wantOK, want)
			}
		}
	}
}

// FuzzText compares the decoding of strings with encoding/json.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		``, `a`, `\n\t\"\\\/`, `\u00e9\u4e2d`, `\ud83d\ude00`, `\ud83d`, `\ude00\ud83d`, `\ud83dx`, `\ud83d\u0041`,
		"\xff", "é", "\xed\xa0\x80", `\u0000`, `😀`, `\ud83d\n`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		quoted := []byte(`"` + raw + `"`)
		var want string
		if json.Unmarshal(quoted, &want) != nil {
			return
		}
		c := cursor{b: quoted}
		got, escaped := c.str()
		if c.failed || string(got) != raw {
			t.Fatalf("%q: cursor gives %q, failed %v", quoted, got, c.failed)
		}
		if text := string(appendText(nil, got)); text != want {
			t.Fatalf("%q: got %q, want %q", quoted, text, want)
		}
		n := textLen(got, escaped)
		if utf8.ValidString(raw) && !strings.Contains(want, "\ufffd") && n != len(want) {
			t.Fatalf("%q: textLen %d, want %d", quoted, n, len(want))
		}
	})
}

func TestFoldKeyAsStructFieldsFold(t *testing.T) {
	for _, key := range []string{
		"messages", "Messages", "MESSAGES", "meſſageſ", `\u006dessages`, `me\u017f\u017fages`, "messagesx", "message",
		"", "é", "\xff", strings.Repeat("m", 100), `\u006d\u0065\u0073\u0073\u0061\u0067\u0065\u0073`, "mesſages",
	} {
		t.Run(key, func(t *testing.T) {
			var v struct {
				Messages int `json:"messages"`
			}
			if err := json.Unmarshal([]byte(`{"`+key+`":1}`), &v); err != nil {
				t.Fatal(err)
			}
			var buf [longestKey]byte
			got, _ := foldKey(&buf, []byte(key), strings.Contains(key, `\`))
			if same := string(got) == "messages"; same != (v.Messages == 1) {
				t.Errorf("foldKey gives %q, encoding/json takes it for the field: %v", got, v.Messages == 1)
			}
		})
	}
	var buf [longestKey]byte
	if got, _ := foldKey(&buf, []byte("\u212aeep_alive"), false); string(got) != "keep_alive" {
		t.Errorf("Kelvin sign: %q", got)
	}
}
