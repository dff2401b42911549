package discovery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// record is all that a node tells the local network about itself.
type record struct {
	cluster  string // c
	protocol int    // v, from 1
	id       string // id
	port     int    // p, of gossip
}

// errTXT is wrapped by every error about a TXT record.
var errTXT = errors.New("discovery: bad txt record")

// maxTXT bounds the strings of one TXT record that are looked at. Ours has
// four; a few more may come with later versions.
const maxTXT = 16

// txt is the record as the strings of a DNS-SD TXT record (RFC 6763, section
// 6). The DNS library reads them in presentation format, where a backslash
// escapes, so it is doubled.
func (r record) txt() []string {
	return []string{
		"c=" + strings.ReplaceAll(r.cluster, `\`, `\\`),
		"v=" + strconv.Itoa(r.protocol),
		"id=" + r.id,
		"p=" + strconv.Itoa(r.port),
	}
}

// parseTXT reads a TXT record as the DNS library hands it out. Unknown keys are
// ignored, keys know no case, and of a repeated key the first counts (RFC 6763,
// section 6.4); a missing or senseless value makes the whole record an error.
func parseTXT(txt []string) (record, error) {
	values := map[string]string{}
	for _, s := range txt[:min(len(txt), maxTXT)] {
		key, value, ok := strings.Cut(unescape(s), "=")
		key = strings.ToLower(key)
		if _, seen := values[key]; ok && !seen {
			values[key] = value
		}
	}
	number := func(key string) (int, error) {
		n, err := strconv.ParseUint(values[key], 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%w: %s=%q is not a number from 1 to 65535", errTXT, key, values[key])
		}
		return int(n), nil
	}
	var r record
	var err error
	if r.protocol, err = number("v"); err != nil {
		return record{}, err
	}
	if r.port, err = number("p"); err != nil {
		return record{}, err
	}
	if r.id = values["id"]; !validID(r.id) {
		return record{}, fmt.Errorf("%w: id=%q is no node id", errTXT, r.id)
	}
	cluster, ok := values["c"]
	if r.cluster = cluster; !ok || !validCluster(cluster) {
		return record{}, fmt.Errorf("%w: c=%q is no cluster name", errTXT, cluster)
	}
	return r, nil
}

// unescape undoes the presentation format of DNS text: \DDD is the byte with
// that decimal value, \ before anything else is that byte (RFC 1035, section
// 5.1). The library escapes every byte outside printable ASCII so.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

// label makes a DNS label of s: at most 63 bytes, letters, digits and hyphens,
// so that no dot or space in an id changes what the name means.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if isAlnum(r) || r == '-' {
			return r
		}
		return '-'
	}, s)
	return s[:min(len(s), 63)]
}

// clip shortens text off the wire for the log.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	for i := limit; i > limit-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i] + "..."
		}
	}
	return s[:limit] + "..."
}
