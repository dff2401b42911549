// Package compare measures proxies in front of Ollama side by side: no proxy
// at all, nginx with a classic hand-written configuration, HAProxy, and
// kage-mesh with one hop, with two, and as a mesh of equal nodes.
//
// Everything that is measured runs as a process of its own on loopback: the
// proxies, the real kage-mesh binary, and the fake Ollamas. In a comparison
// all proxies are up at once and one at a time is under load, in short slices
// whose order is shuffled anew in every repeat; ratios are taken inside a
// repeat, and the median of the repeats with their spread is what the report
// shows. So a machine that is busy with something else disturbs all alike.
//
// The invariant: a number never stands for less than it says. An answer counts
// only when all its tokens came, in order, with the mark of its end; a proxy
// that is not installed is named in the report; a slice that failed is an
// error in it, not a gap.
package compare
