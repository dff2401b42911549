package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// appendText decodes the text between a JSON string's quotes and appends it to
// dst, as encoding/json would: what is no UTF-8 and half surrogate pairs become
// U+FFFD. The text has passed a cursor, so its escapes are whole.
func appendText(dst, raw []byte) []byte {
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			n = len(raw)
		}
		dst = appendUTF8(dst, raw[:n])
		if raw = raw[n:]; len(raw) == 0 {
			return dst
		}
		if raw[1] != 'u' {
			dst = append(dst, unescaped[raw[1]])
			raw = raw[2:]
			continue
		}
		r := hex4(raw[2:])
		raw = raw[6:]
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
				low = hex4(raw[2:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func appendUTF8(dst, p []byte) []byte {
	if utf8.Valid(p) {
		return append(dst, p...)
	}
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		dst = utf8.AppendRune(dst, r)
		p = p[n:]
	}
	return dst
}

// unescaped maps the letter after a backslash to what it stands for.
var unescaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

func hexDigit(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

func hex4(p []byte) rune {
	var r rune
	for _, b := range p[:4] {
		r = r<<4 | rune(hexDigit(b)) //nolint:gosec // a hex digit
	}
	return r
}

// textLen is how many bytes raw decodes to, near enough: a \u escape counts as
// the UTF-8 of its code unit. Many clients escape all that is not ASCII, which
// would make a Chinese prompt look twice as long.
func textLen(raw []byte, escaped bool) int {
	n := len(raw)
	if !escaped {
		return n
	}
	for i := bytes.IndexByte(raw, '\\'); i >= 0; {
		size := 2
		if raw[i+1] != 'u' {
			n--
		} else {
			size = 6
			switch r := hex4(raw[i+2:]); {
			case r < 0x80:
				n -= 5
			case r < 0x800, utf16.IsSurrogate(r): // half of four bytes
				n -= 4
			default:
				n -= 3
			}
		}
		i += size
		j := bytes.IndexByte(raw[i:], '\\')
		if j < 0 {
			break
		}
		i += j
	}
	return n
}

// longestKey is the longest member name that we compare with, in bytes.
const longestKey = len("max_completion_tokens")

// foldKey returns raw, the name of an object member, as encoding/json compares
// it with the fields of a struct: decoded and case-folded, here to lower case.
// It returns nil for names that are none of ours. The result lives in buf;
// exact reports whether the name was in lower case already.
func foldKey(buf *[longestKey]byte, raw []byte, escaped bool) (key []byte, exact bool) {
	if escaped {
		if len(raw) > 6*longestKey {
			return nil, false
		}
		raw = appendText(make([]byte, 0, len(raw)), raw)
	}
	exact = true
	n := 0
	for i := 0; i < len(raw); n++ {
		b := raw[i]
		size := 1
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
			exact = false
		case b >= utf8.RuneSelf:
			// Two letters beyond ASCII fold to an ASCII one (Unicode simple
			// case folding), so encoding/json takes "meſſages" for "messages".
			var r rune
			exact = false
			switch r, size = utf8.DecodeRune(raw[i:]); r {
			case 'ſ': // long s, U+017F
				b = 's'
			case '\u212a': // Kelvin sign
				b = 'k'
			default:
				return nil, false
			}
		}
		if n == len(buf) {
			return nil, false
		}
		buf[n] = b
		i += size
	}
	return buf[:n], exact
}
