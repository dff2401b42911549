package ollamatest

import (
	"encoding/json"
	"strconv"
	"time"
)

// Frames are built by hand from parts made once per answer: with hundreds of
// streams the reflection of encoding/json would cost more than everything else
// the fake does.

// appendString appends a JSON string, escaped as encoding/json does.
func appendString(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(string(text))
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

// quote is appendString for a string.
func quote(s string) string { return string(appendString(nil, []byte(s))) }

// appendTime appends the present time as created_at has it.
func appendTime(b []byte) []byte {
	return time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
}

// appendJSON appends v; for the rare parts of an answer.
func appendJSON(b []byte, v any) []byte {
	text, _ := json.Marshal(v)
	return append(b, text...)
}

// appendInts appends a JSON array of integers.
func appendInts(b []byte, list []int64) []byte {
	b = append(b, '[')
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return append(b, ']')
}

// appendField appends ,"name":n if n is not 0.
func appendField(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, n, 10)
}
