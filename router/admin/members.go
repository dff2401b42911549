package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// SchemaVersion of every document of this package.
const SchemaVersion = 1

// Members is the answer of /mesh/v1/members.
type Members struct {
	SchemaVersion int       `json:"schema_version"`
	Timestamp     time.Time `json:"timestamp"`
	Cluster       string    `json:"cluster"`
	Self          string    `json:"self"` // name of the node that answers
	Members       []Member  `json:"members"`
}

// Member is one node, flat, for scripts and tables. Sizes are bytes; 0 means
// unknown.
type Member struct {
	Name        string  `json:"name"`
	ID          string  `json:"id"`
	Self        bool    `json:"self"`
	Status      string  `json:"status"` // alive, draining, failed, left
	Since       string  `json:"since"`  // RFC 3339
	Role        string  `json:"role"`
	GPU         string  `json:"gpu"`      // nvidia, amd, intel, apple, cpu
	GPUName     string  `json:"gpu_name"` // of the largest, "" without one
	VRAMTotal   uint64  `json:"vram_total"`
	VRAMFree    uint64  `json:"vram_free"`
	RAMTotal    uint64  `json:"ram_total"`
	RAMFree     uint64  `json:"ram_free"`
	Unified     bool    `json:"unified_memory"`
	Capable72B  bool    `json:"72b_capable"`
	Models      []Model `json:"models"`
	Running     int     `json:"in_flight"`
	Waiting     int     `json:"waiting"`
	Slots       int     `json:"slots"` // per loaded model
	TokensPerS  float64 `json:"tokens_per_second"`
	Written     uint64  `json:"written_tokens"` // by its Ollama for the mesh, since the node started
	RTTMillis   float64 `json:"rtt_ms"`
	Address     string  `json:"address"`      // gossip
	PeerAddress string  `json:"peer_address"` // forwards, TLS
	Version     string  `json:"version"`
	Ollama      string  `json:"ollama_version"` // "" when its Ollama does not answer

	Hardware *hardware.Inventory `json:"hardware,omitempty"`
}

// Model is one model on a node's disk.
type Model struct {
	Name       string  `json:"name"`
	Size       uint64  `json:"size"`
	Digest     string  `json:"digest"`
	Loaded     bool    `json:"loaded"`
	SizeVRAM   uint64  `json:"size_vram"`
	TokensPerS float64 `json:"tokens_per_second"`
	Cloud      bool    `json:"cloud,omitempty"`
}

// MembersOf lists a View's members: alive ones first, then by name.
func MembersOf(v *mesh.View, cluster string, now time.Time) Members {
	out := Members{SchemaVersion: SchemaVersion, Timestamp: now.UTC(), Cluster: cluster, Members: []Member{}}
	for _, m := range v.Members() {
		member := memberOf(m)
		if m.Self {
			out.Self = m.Name
		}
		out.Members = append(out.Members, member)
	}
	slices.SortStableFunc(out.Members, func(a, b Member) int {
		if c := rank(a.Status) - rank(b.Status); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

func rank(status string) int {
	return slices.Index([]string{"alive", "draining", "failed", "left"}, status)
}

func memberOf(m *mesh.Member) Member {
	out := Member{
		Name: m.Name, ID: string(m.ID), Self: m.Self, Status: string(m.Status),
		Since: m.Since.UTC().Format(time.RFC3339), Role: m.Info.Role, GPU: m.Info.GPU,
		VRAMTotal: m.Info.VRAM, RAMTotal: m.Info.RAM, Unified: m.Info.Unified, Capable72B: m.Info.Big,
		Models: []Model{}, Slots: m.Parallel(),
		RTTMillis: float64(m.RTT.Microseconds()) / 1000,
		Address:   m.Addr.String(), PeerAddress: m.Peer().String(),
		Version: m.Info.Version, Ollama: m.Info.Ollama,
	}
	if m.Status == mesh.Alive && m.Draining() {
		out.Status = "draining"
	}
	if m.Load != nil {
		out.Running, out.Waiting, out.Written = m.Load.Running, m.Load.Waiting, m.Load.Written
		out.VRAMFree, out.RAMFree = m.Load.FreeVRAM, m.Load.FreeRAM
	}
	if m.Card == nil {
		return out
	}
	out.Hardware = &m.Card.Hardware
	out.GPUName = largest(m.Card.Hardware.GPUs)
	for i := range m.Card.Catalog {
		out.Models = append(out.Models, modelOf(&m.Card.Catalog[i], m.Load))
	}
	out.TokensPerS = speed(m.Load)
	return out
}

func modelOf(m *mesh.Model, load *mesh.Load) Model {
	out := Model{Name: m.Name, Size: m.Size, Digest: m.Digest, Cloud: m.Remote != ""}
	if l := load.Model(m.Key); l != nil {
		out.Loaded, out.SizeVRAM, out.TokensPerS = l.Resident, l.SizeVRAM, l.Decode
	}
	return out
}

// speed is the decode rate to show for a node: of the model in memory with the
// most answers behind it, else of any model.
func speed(load *mesh.Load) float64 {
	if load == nil {
		return 0
	}
	var best *mesh.ModelLoad
	for i := range load.Models {
		m := &load.Models[i]
		if m.Samples == 0 {
			continue
		}
		if best == nil || m.Resident && !best.Resident || m.Resident == best.Resident && m.Samples > best.Samples {
			best = m
		}
	}
	if best == nil {
		return 0
	}
	return best.Decode
}

func largest(gpus []hardware.GPU) string {
	name, size := "", uint64(0)
	for _, g := range gpus {
		if name == "" || g.VRAM.N > size {
			name, size = g.Name, g.VRAM.N
		}
	}
	return name
}
