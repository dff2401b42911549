package admin

import (
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Status is the answer of /mesh/v1/status: the whole mesh in one small
// document.
type Status struct {
	SchemaVersion int                   `json:"schema_version"`
	Timestamp     time.Time             `json:"timestamp"`
	Cluster       string                `json:"cluster"`
	Health        string                `json:"health"`        // HEALTHY, DEGRADED, DOWN
	Inference72B  string                `json:"inference_72b"` // AVAILABLE, PARTIAL, UNAVAILABLE
	Online        int                   `json:"online"`
	Total         int                   `json:"total"`
	Capable72B    int                   `json:"72b_nodes"`     // nodes able to hold a 72B model and serving now
	Known72B      int                   `json:"72b_nodes_all"` // the same, dead ones counted
	Running       int                   `json:"in_flight"`
	Waiting       int                   `json:"waiting"`
	Nodes         map[string]NodeStatus `json:"nodes"`
	LoadBalancer  Balancer              `json:"load_balancer"`
}

// NodeStatus is one node in a Status.
type NodeStatus struct {
	Status     string `json:"status"` // online, draining, offline
	Endpoint   string `json:"endpoint"`
	Role       string `json:"role"`
	Capable72B bool   `json:"72b_capable"`
	ModelCount int    `json:"model_count"`
	Models     string `json:"models"` // comma-separated
	Ollama     string `json:"ollama_version"`
}

// Balancer is the endpoint that clients use; every node is one.
type Balancer struct {
	Status   string `json:"status"` // online
	Endpoint string `json:"endpoint"`
}

// StatusOf sums up a View as the node sees it whose client endpoint is api.
// Members that left are not part of it.
func StatusOf(v *mesh.View, cluster, api string, now time.Time) Status {
	s := Status{
		SchemaVersion: SchemaVersion, Timestamp: now.UTC(), Cluster: cluster,
		Nodes: map[string]NodeStatus{}, LoadBalancer: Balancer{Status: "online", Endpoint: api},
	}
	serves := 0
	for _, m := range v.Members() {
		if m.Status == mesh.Left {
			continue
		}
		node := NodeStatus{
			Status: "offline", Endpoint: m.Peer().String(), Role: m.Info.Role,
			Capable72B: m.Info.Big, Ollama: m.Info.Ollama,
		}
		if m.Card != nil {
			names := make([]string, 0, len(m.Card.Catalog))
			for i := range m.Card.Catalog {
				names = append(names, m.Card.Catalog[i].Name)
			}
			node.ModelCount, node.Models = len(names), strings.Join(names, ",")
		}
		s.Total++
		if m.Status == mesh.Alive {
			s.Online++
			node.Status = "online"
			if m.Draining() {
				node.Status = "draining"
			}
		}
		if m.Serving() {
			serves++
		}
		if m.Info.Big {
			s.Known72B++
			if m.Serving() {
				s.Capable72B++
			}
		}
		if m.Load != nil && m.Status == mesh.Alive {
			s.Running += m.Load.Running
			s.Waiting += m.Load.Waiting
		}
		s.Nodes[m.Name] = node
	}
	s.Health = health(s.Online, s.Total, serves)
	s.Inference72B = inference(s.Capable72B, s.Known72B)
	return s
}

func health(online, total, serves int) string {
	switch {
	case serves == 0:
		return "DOWN"
	case online < total:
		return "DEGRADED"
	}
	return "HEALTHY"
}

func inference(serving, known int) string {
	switch {
	case serving == 0:
		return "UNAVAILABLE"
	case serving < known:
		return "PARTIAL"
	}
	return "AVAILABLE"
}
