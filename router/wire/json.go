package wire

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// maxDepth is how many containers may be open at once: encoding/json's limit.
const maxDepth = 10000

// cursor walks over JSON text once, front to back. It accepts exactly what
// encoding/json accepts, validates what it skips, and never copies or decodes
// a value that its user does not ask for: a body may be 64 MiB of base64.
//
// The first error sticks: from then on every method does nothing and reports
// that nothing is there, so that callers check failed once, at the end.
type cursor struct {
	b     []byte
	i     int
	depth int // containers open at i

	// key is the raw text of the member that object or more stopped at,
	// without its quotes; keyEscaped says that it holds a backslash. Both are
	// overwritten by any nested object.
	key        []byte
	keyEscaped bool

	failed bool
	reason string // what the character at i is wrong for; "" at the end of the text
}

// fail notes that the character at i does not belong there. Its wording is
// encoding/json's, which Ollama passes on to its callers.
func (c *cursor) fail(reason string) {
	if c.failed {
		return
	}
	c.failed = true
	if c.i < len(c.b) {
		c.reason = reason
	}
}

// syntaxError is the error text for a failed cursor, as encoding/json's Decoder
// words it.
func (c *cursor) syntaxError() string {
	if c.i >= len(c.b) {
		return "unexpected EOF"
	}
	return "invalid character " + quoteByte(c.b[c.i]) + " " + c.reason
}

func quoteByte(b byte) string {
	switch b {
	case '\'':
		return `'\''`
	case '"':
		return `'"'`
	}
	s := strconv.Quote(string(rune(b)))
	return "'" + s[1:len(s)-1] + "'"
}

// space skips white space and returns the character after it, 0 at the end of
// the text or after a failure.
func (c *cursor) space() byte {
	if c.failed {
		return 0
	}
	for c.i < len(c.b) {
		switch b := c.b[c.i]; b {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return b
		}
	}
	return 0
}

// object enters the object whose brace is next and stops at its first member,
// with key set and the value next. It returns false for an empty object, which
// it leaves, and on failure.
func (c *cursor) object() bool {
	if !c.push('{') {
		return false
	}
	if c.space() == '}' {
		c.pop()
		return false
	}
	return c.member()
}

// more goes on to the next member, or leaves the object and returns false.
func (c *cursor) more() bool {
	switch c.space() {
	case ',':
		c.i++
		c.space()
		return c.member()
	case '}':
		c.pop()
		return false
	}
	c.fail("after object key:value pair")
	return false
}

func (c *cursor) member() bool {
	if c.failed || c.i >= len(c.b) || c.b[c.i] != '"' {
		c.fail("looking for beginning of object key string")
		return false
	}
	c.key, c.keyEscaped = c.str()
	if c.space() != ':' {
		c.fail("after object key")
		return false
	}
	c.i++
	return true
}

// array enters the array whose bracket is next and stops before its first
// element. It returns false for an empty array, which it leaves, and on
// failure.
func (c *cursor) array() bool {
	if !c.push('[') {
		return false
	}
	if c.space() == ']' {
		c.pop()
		return false
	}
	return !c.failed
}

// next goes on to the next element, or leaves the array and returns false.
func (c *cursor) next() bool {
	switch c.space() {
	case ',':
		c.i++
		return true
	case ']':
		c.pop()
		return false
	}
	c.fail("after array element")
	return false
}

func (c *cursor) push(open byte) bool {
	if c.space() != open {
		c.fail("looking for beginning of value")
		return false
	}
	if c.depth == maxDepth {
		c.fail("exceeded max depth")
		return false
	}
	c.depth++
	c.i++
	return true
}

func (c *cursor) pop() {
	c.depth--
	c.i++
}

// skip passes over one value of any kind.
func (c *cursor) skip() {
	switch b := c.space(); b {
	case '"':
		c.str()
	case '{':
		for m := c.object(); m; m = c.more() {
			c.skip()
		}
	case '[':
		for m := c.array(); m; m = c.next() {
			c.skip()
		}
	case 't':
		c.literal("true")
	case 'f':
		c.literal("false")
	case 'n':
		c.literal("null")
	default:
		if b == '-' || '0' <= b && b <= '9' {
			c.number()
			return
		}
		c.fail("looking for beginning of value")
	}
}

// raw passes over one value and returns its text.
func (c *cursor) raw() []byte {
	c.space()
	from := c.i
	c.skip()
	if c.failed {
		return nil
	}
	return c.b[from:c.i]
}

// str passes over the string whose quote is next and returns its text between
// the quotes, and whether that holds a backslash.
func (c *cursor) str() (raw []byte, escaped bool) {
	if c.failed {
		return nil, false
	}
	b, from := c.b, c.i+1
	i := from
	for {
		for i+8 <= len(b) {
			m := special(binary.LittleEndian.Uint64(b[i:]))
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		switch {
		case i >= len(b):
			c.i = i
			c.fail("")
			return nil, false
		case b[i] == '"':
			c.i = i + 1
			return b[from:i], escaped
		case b[i] != '\\':
			c.i = i
			c.fail("in string literal")
			return nil, false
		}
		escaped = true
		if i = c.escape(i + 1); i < 0 {
			return nil, false
		}
	}
}

// escape passes over the escape whose letter is at i, just after the backslash.
func (c *cursor) escape(i int) (after int) {
	c.i = i
	if i >= len(c.b) {
		c.fail("")
		return -1
	}
	switch c.b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		c.fail("in string escape code")
		return -1
	}
	for c.i++; c.i < i+5; c.i++ {
		if c.i >= len(c.b) || hexDigit(c.b[c.i]) < 0 {
			c.fail(`in \u hexadecimal character escape`)
			return -1
		}
	}
	return c.i
}

// special marks the bytes of w that end a run of plain string text: a quote, a
// backslash, a control character. Only the lowest mark is exact, because the
// subtractions borrow upwards ("determine if a word has a byte less than n", S.
// Anderson, Bit Twiddling Hacks).
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

func (c *cursor) literal(word string) {
	for j := 1; j < len(word); j++ {
		c.i++
		if c.i >= len(c.b) || c.b[c.i] != word[j] {
			c.fail("in literal " + word + " (expecting " + quoteByte(word[j]) + ")")
			return
		}
	}
	c.i++
}

func (c *cursor) number() {
	if c.b[c.i] == '-' {
		c.i++
	}
	switch {
	case c.i < len(c.b) && c.b[c.i] == '0':
		c.i++
	case !c.digits():
		c.fail("in numeric literal")
		return
	}
	if c.i < len(c.b) && c.b[c.i] == '.' {
		c.i++
		if !c.digits() {
			c.fail("after decimal point in numeric literal")
			return
		}
	}
	if c.i < len(c.b) && (c.b[c.i] == 'e' || c.b[c.i] == 'E') {
		c.i++
		if c.i < len(c.b) && (c.b[c.i] == '+' || c.b[c.i] == '-') {
			c.i++
		}
		if !c.digits() {
			c.fail("in exponent of numeric literal")
		}
	}
}

func (c *cursor) digits() bool {
	from := c.i
	for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
		c.i++
	}
	return c.i > from
}
