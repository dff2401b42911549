package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Checkup is the answer of /mesh/v1/checkup: what only the running node can say
// of itself and of the paths to the others. It holds no secret and no text of
// any request.
type Checkup struct {
	SchemaVersion int       `json:"schema_version"`
	Timestamp     time.Time `json:"timestamp"`
	Version       string    `json:"version"`
	PID           int       `json:"pid"`

	API       string `json:"api"`       // bound address of the client port
	Peer      string `json:"peer"`      // of the peer port
	Gossip    string `json:"gossip"`    // of the gossip port, TCP and UDP
	Advertise string `json:"advertise"` // gossip address that the others are told
	Locked    bool   `json:"locked"`    // clients from the network need a key
	Keyed     bool   `json:"keyed"`     // the mesh has a key

	Ollama   string   `json:"ollama"` // URL
	StateDir string   `json:"state_dir"`
	Models   []string `json:"models_dirs"` // where the local Ollama's models may be

	MDNS     bool      `json:"mdns"`  // the node announces itself and browses
	Seeds    []string  `json:"seeds"` // addresses that it was told
	Settings []Setting `json:"settings,omitempty"`

	DescriptorLimit uint64 `json:"descriptor_limit"` // 0: none, or not known

	Peers []mesh.Reach `json:"peers"`
	// Greeted is what the nodes at the addresses asked about say to a join; ""
	// is welcome.
	Greeted map[string]string `json:"greeted,omitempty"`
}

// Setting is one setting that a node runs with and where it comes from.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // flag, environment variable, file:line, or default
}

// maxGreet bounds the addresses of one question.
const maxGreet = 32

// checkupLimit bounds a checkup of nodes that do not answer.
const checkupLimit = 30 * time.Second

func (c Config) checkup(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithTimeout(req.Context(), checkupLimit)
	defer cancel()
	greet := req.URL.Query()["greet"]
	if len(greet) > maxGreet {
		greet = greet[:maxGreet]
	}
	up := c.Checkup(ctx, greet, req.URL.Query().Get("paths") != "no")
	up.SchemaVersion, up.Timestamp, up.Version = SchemaVersion, time.Now().UTC(), c.Version
	write(w, http.StatusOK, up)
}

// Checkup asks for /mesh/v1/checkup, which takes as long as the paths to the
// others do, up to half a minute. Greet are gossip addresses of nodes that are
// no members.
func (c Client) Checkup(ctx context.Context, greet ...string) (Checkup, error) {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: checkupLimit + 5*time.Second}
	}
	var up Checkup
	return up, c.call(ctx, http.MethodGet, "checkup?"+url.Values{"greet": greet}.Encode(), &up)
}

// CheckupHere asks for the part of a Checkup that needs no other node.
func (c Client) CheckupHere(ctx context.Context) (Checkup, error) {
	var up Checkup
	return up, c.call(ctx, http.MethodGet, "checkup?paths=no", &up)
}
