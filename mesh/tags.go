package mesh

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Gossip tags: the form in which [Info] travels with membership. Serf allows
// 512 bytes for all keys and values together, so keys are one or two letters,
// numbers are in base 36, and texts have bounds that keep the sum below 400
// whatever a hostname or a version string holds. Readers ignore keys that they
// do not know and skip values that they cannot read: a member with malformed
// tags is still shown with what is readable.
const (
	tagProtocol = "p"
	tagVersion  = "n"
	tagHostname = "h"
	tagRole     = "r"
	tagPeerPort = "pp"
	tagAPIPort  = "ap"
	tagGPU      = "g"
	tagVRAM     = "vr"
	tagRAM      = "rm"
	tagFlags    = "f" // letters: u unified, b big, d draining
	tagOllama   = "o"
	tagCard     = "c"
)

// Bounds of texts in tags, in bytes.
const (
	maxHostname = 63 // a DNS label
	maxVersion  = 32
	maxWord     = 24 // role, GPU kind, card digest
)

// tagsOf writes i as tags.
func tagsOf(i Info) map[string]string {
	tags := make(map[string]string, 12)
	text := func(key, v string, limit int) {
		if v = clean(v, limit); v != "" {
			tags[key] = v
		}
	}
	number := func(key string, v uint64) {
		if v != 0 {
			tags[key] = strconv.FormatUint(v, 36)
		}
	}
	number(tagProtocol, uint64(max(i.Protocol, 0)))
	text(tagVersion, i.Version, maxVersion)
	text(tagHostname, i.Hostname, maxHostname)
	text(tagRole, i.Role, maxWord)
	number(tagPeerPort, uint64(max(i.PeerPort, 0)))
	number(tagAPIPort, uint64(max(i.APIPort, 0)))
	text(tagGPU, i.GPU, maxWord)
	number(tagVRAM, i.VRAM)
	number(tagRAM, i.RAM)
	flags := make([]byte, 0, 3)
	for _, f := range []struct {
		set    bool
		letter byte
	}{{i.Unified, 'u'}, {i.Big, 'b'}, {i.Draining, 'd'}} {
		if f.set {
			flags = append(flags, f.letter)
		}
	}
	text(tagFlags, string(flags), maxWord)
	text(tagOllama, i.Ollama, maxVersion)
	text(tagCard, i.Card, maxWord)
	return tags
}

// infoOf reads tags; it takes what it can and never fails.
func infoOf(tags map[string]string) Info {
	number := func(key string, limit uint64) uint64 {
		v, err := strconv.ParseUint(tags[key], 36, 64)
		if err != nil || v > limit {
			return 0
		}
		return v
	}
	const any64 = 1<<64 - 1
	flags := tags[tagFlags]
	return Info{
		Protocol: int(number(tagProtocol, 1<<16)), //nolint:gosec // bounded
		Version:  clean(tags[tagVersion], maxVersion),
		Hostname: clean(tags[tagHostname], maxHostname),
		Role:     clean(tags[tagRole], maxWord),
		PeerPort: int(number(tagPeerPort, 65535)), //nolint:gosec // bounded
		APIPort:  int(number(tagAPIPort, 65535)),  //nolint:gosec // bounded
		GPU:      clean(tags[tagGPU], maxWord),
		VRAM:     number(tagVRAM, any64),
		RAM:      number(tagRAM, any64),
		Unified:  strings.Contains(flags, "u"),
		Big:      strings.Contains(flags, "b"),
		Draining: strings.Contains(flags, "d"),
		Ollama:   clean(tags[tagOllama], maxVersion),
		Card:     clean(tags[tagCard], maxWord),
	}
}

// describe fills the parts of i that follow from a card.
func (i Info) describe(c *Card, digest string) Info {
	i.Card = digest
	if c == nil {
		return i
	}
	hw := c.Hardware
	if i.Role == "" {
		i.Role = hw.Role
	}
	i.GPU = hw.GPUKind()
	i.VRAM, i.RAM, i.Unified = hw.VRAM.N, hw.RAM.N, hw.Unified
	i.Big = hw.Capable72B()
	i.Ollama = c.Ollama
	return i
}

// clean makes text from another node safe for a terminal, a log and a tag:
// valid UTF-8, printable, no line breaks, at most limit bytes, cut between
// letters.
func clean(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut])
}
