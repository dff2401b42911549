package doctor

import (
	"regexp"
	"strings"
)

// secrets are what must not leave the machine in a bundle: mesh keys, API keys,
// credentials in headers and URLs, private keys.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`kage1-[A-Za-z0-9+/=_-]+`),
	regexp.MustCompile(`kma-[a-z2-7]+`),
	regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{8,}`),
	regexp.MustCompile(`(?i)(authorization:? +)?(bearer|basic) +[^\s"',]+`),
	regexp.MustCompile(`(?i)x-api-key"?:? *[^\s"',]+`),
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`),
	regexp.MustCompile(`://[^/\s:@"]+:[^/\s@"]+@`),
}

// Redact takes secrets, and the name of the user's home directory, out of a
// text. Addresses, node names and model names stay: without them a report says
// nothing.
func Redact(text, home string) string {
	for _, re := range secrets {
		text = re.ReplaceAllString(text, "(redacted)")
	}
	if home != "" && home != "/" {
		text = strings.ReplaceAll(text, home, "~")
		text = strings.ReplaceAll(text, strings.ReplaceAll(home, `\`, `\\`), "~") // in JSON
	}
	return text
}
