package ollamatest

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The tokenizer: special markers, answer tokens (" 1a2b-17") and otherwise
// words of up to six bytes with the blank before them, or single characters.
// Every token has a number of its own below 2^53, from which its text can be
// read back, so the context array of /api/generate needs no vocabulary.

// markers are the special tokens of the default template.
var markers = []string{
	"<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>",
	"<|prefix|>", "<|suffix|>", "<|middle|>", thinkOpen, thinkClose,
}

const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
	wordBytes  = 6
	markerBit  = 1 << 51
	answerBit  = 1 << 52
	numberBits = 34 // of an answer token's number
)

// tokenLen returns the length in bytes of the first token of s, 0 if s is empty.
func tokenLen(s string) int {
	if s == "" {
		return 0
	}
	if s[0] == '<' {
		for _, m := range markers {
			if strings.HasPrefix(s, m) {
				return len(m)
			}
		}
	}
	if n := answerLen(s); n > 0 {
		return n
	}
	i := 0
	if s[0] == ' ' && len(s) > 1 && isAlnum(s[1]) {
		i = 1
	}
	if isAlnum(s[i]) {
		for i < len(s) && i < wordBytes && isAlnum(s[i]) {
			i++
		}
		return i
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// answerLen returns the length of the answer token at the start of s, or 0.
func answerLen(s string) int {
	if len(s) < len(" 0000-0") || s[0] != ' ' || s[5] != '-' || !isHex(s[1:5]) {
		return 0
	}
	i := 6
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	if i == 6 || s[6] == '0' && i > 7 || i > 6+10 || i < len(s) && isAlnum(s[i]) {
		return 0
	}
	return i
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// countTokens returns how many tokens s has.
func countTokens(s string) int {
	n := 0
	for ; s != ""; n++ {
		s = s[tokenLen(s):]
	}
	return n
}

// encodeTokens appends the numbers of the tokens of s to ids.
func encodeTokens(ids []int64, s string) []int64 {
	for s != "" {
		n := tokenLen(s)
		ids = append(ids, tokenID(s[:n]))
		s = s[n:]
	}
	return ids
}

// tokenID returns the number of one token.
func tokenID(token string) int64 {
	if i := slices.Index(markers, token); i >= 0 {
		return markerBit | int64(i)
	}
	if answerLen(token) == len(token) {
		chain, _ := strconv.ParseUint(token[1:5], 16, 16)
		n, _ := strconv.ParseUint(token[6:], 10, numberBits)
		return answerBit | int64(chain)<<numberBits | int64(n)
	}
	id := int64(len(token))
	for i := range wordBytes {
		id <<= 8
		if i < len(token) {
			id |= int64(token[i])
		}
	}
	return id
}

// decodeTokens returns the text of tokens; numbers that are none are left out.
func decodeTokens(ids []int64) string {
	var b []byte
	for _, id := range ids {
		switch {
		case id < 0:
		case id&answerBit != 0:
			chain := uint16(id >> numberBits)
			b = appendAnswer(b, chain, int(id&(1<<numberBits-1)))
		case id&markerBit != 0:
			if i := int(id &^ markerBit); i < len(markers) {
				b = append(b, markers[i]...)
			}
		default:
			n := int(id >> (8 * wordBytes))
			for i := range min(n, wordBytes) {
				b = append(b, byte(id>>(8*(wordBytes-1-i))))
			}
		}
	}
	return string(b)
}
