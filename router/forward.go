package router

import (
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// The forward protocol: one POST to ForwardPath plus the route's own path,
// the caller's body untouched, and these headers. The owner answers with its
// Ollama's status, headers and body; before that, with as many 102 responses
// as it takes (RFC 2518 section 10.1), each a sign of life.
const (
	ForwardPath = "/mesh/v1/forward"

	headerNode      = "X-Kage-Node"       // who answers, for people
	headerAttempts  = "X-Kage-Attempts"   // how many tries it took
	headerDigest    = "X-Kage-Digest"     // of the model that answers, where nodes differ in it
	headerRequestID = "X-Kage-Request-Id" // one id over both hops
	headerMethod    = "X-Kage-Method"     // the route's own method, when not POST
	headerKey       = "X-Kage-Model"      // canonical model name
	headerPrompt    = "X-Kage-Prompt"     // estimated prompt tokens
	headerOutput    = "X-Kage-Output"     // expected output tokens
	headerContext   = "X-Kage-Context"    // num_ctx asked for
	headerPromise   = "X-Kage-Promise"    // start that the ingress assumed, ms; absent: none
	headerSlow      = "X-Kage-Slow"       // how much longer than alone the ingress assumed, thousandths; absent: not said
	headerClass     = "X-Kage-Class"      // "batch", else interactive
	headerClient    = "X-Kage-Client"     // whom fairness counts it for, hashed
	headerRefused   = "X-Kage-Refused"    // why the owner refused; absent: its Ollama answered
	headerPhase     = "X-Kage-Phase"      // in a 102: queued, loading or running
	headerPosition  = "X-Kage-Position"   // in a 102: place in the owner's queue, 1 is next
	headerTicket    = "X-Kage-Ticket"     // in a 102: hands the place back, see WithdrawPath
	headerStart     = "X-Kage-Start"      // in a 102 and a refusal: expected start, ms
	headerLoad      = "X-Kage-Load"       // the owner's load, fresher than gossip
	headerContinued = "X-Kage-Continued"  // to the client: "restart", an owner was lost before the first byte and the work began anew
	headerContinue  = "X-Kage-Continue"   // from the client: "off" forbids continuation
	headerClosing   = "X-Kage-Closing"    // of a taken-up answer: the tag that will end its thinking
)

// The owner's reasons to refuse, in headerRefused.
const (
	RefusedSaturated = "saturated"
	RefusedLate      = "late"
	RefusedDraining  = "draining"
	RefusedDown      = "down"
	RefusedNoModel   = "no-model"
	RefusedMoved     = "moved" // the ingress wanted its place in the queue back
)

// signEvery is how often an owner shows life while it has no answer yet, and
// silence is how long an ingress waits for the next sign: four missed ones. A
// cold load of minutes is waited for; a frozen node is left within seconds.
const (
	signEvery = time.Second
	silence   = 4 * signEvery
)

// sign is one sign of life of an owner.
type sign struct {
	phase    string
	position int
	ticket   string
	start    time.Duration
}

func readSign(h http.Header) sign {
	return sign{
		phase:    wire.Field(h, headerPhase),
		position: headerInt(h, headerPosition),
		ticket:   wire.Field(h, headerTicket),
		start:    time.Duration(headerInt(h, headerStart)) * time.Millisecond,
	}
}

func (s sign) write(h http.Header) {
	h.Set(headerPhase, s.phase)
	if s.position > 0 {
		h.Set(headerPosition, strconv.Itoa(s.position))
		if s.ticket != "" {
			h.Set(headerTicket, s.ticket)
		}
		h.Set(headerStart, strconv.FormatInt(s.start.Milliseconds(), 10))
	}
}

func clearSign(h http.Header) {
	h.Del(headerPhase)
	h.Del(headerPosition)
	h.Del(headerTicket)
	h.Del(headerStart)
}

func readLoad(text string) *mesh.Load {
	load, err := mesh.DecodeLoadText(text, time.Now())
	if err != nil {
		return nil // a fresher report will come by gossip
	}
	return load
}

func writeLoad(h http.Header, load *mesh.Load) {
	if text := loadText(load); text != "" {
		h.Set(headerLoad, text)
	}
}

func loadText(load *mesh.Load) string {
	if load == nil {
		return ""
	}
	text, err := mesh.EncodeLoadText(load, time.Now())
	if err != nil {
		return "" // gossip brings it
	}
	return text
}

// headerInt is a count or milliseconds, 0 when there is none that makes sense:
// more than 24 days, or tokens, would overflow what is reckoned with them.
func headerInt(h http.Header, key string) int {
	n, err := strconv.ParseInt(wire.Field(h, key), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// hopHeaders are dropped on both ways: they speak of one connection
// (RFC 9110 section 7.6.1).
var hopHeaders = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Proxy-Authenticate": true, "Proxy-Authorization": true,
}

// callerHeaders copies what of a client's headers may reach a backend. Not
// among it: credentials, cookies, where the browser came from, forwarding
// chains, and our own headers, which only nodes may set.
func callerHeaders(in http.Header) http.Header {
	out := make(http.Header, len(in))
	for k, vs := range in {
		switch {
		case hopHeaders[k], len(k) > 7 && k[:7] == "X-Kage-":
		case k == "Authorization", k == "X-Api-Key", k == "Cookie", k == "Origin", k == "Referer",
			k == "Forwarded", len(k) > 12 && k[:12] == "X-Forwarded-",
			len(k) > 10 && k[:10] == "Sec-Fetch-", k == "Content-Length", k == "Expect", k == "Accept-Encoding",
			k == "Content-Encoding": // bodies go on decoded
		default:
			out[k] = vs
		}
	}
	return out
}

// answerHeaders copies what of an owner's headers reaches the client.
func answerHeaders(out, in http.Header) {
	for k, vs := range in {
		if hopHeaders[k] || k == "Date" || k == "Content-Length" ||
			len(k) > 7 && k[:7] == "X-Kage-" {
			continue
		}
		out[textproto.CanonicalMIMEHeaderKey(k)] = vs
	}
}
