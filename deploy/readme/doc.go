// Package readme runs what README.md and the Claude Code plugin tell people to
// type: every block of shell in them, in order, on one machine of its own (a
// network namespace) with a fake Ollama, the real ollama command and the real
// kage-mesh. A block that is not to be run says so: ```text, ```yaml.
package readme
