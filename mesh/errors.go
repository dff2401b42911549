package mesh

import (
	"errors"
	"fmt"
	"net/netip"
)

// Why the context of a member ended, see [Member.Context].
var (
	// ErrMemberFailed means that the member stopped answering, or that its
	// process was replaced by a new one.
	ErrMemberFailed = errors.New("mesh: member failed")
	// ErrMemberLeft means that the member said goodbye.
	ErrMemberLeft = errors.New("mesh: member left")
)

// What can be wrong with this node.
var (
	// ErrPortInUse is what [New] fails with when another process has the port;
	// the error is a [*PortInUseError] that names it.
	ErrPortInUse = errors.New("mesh: port in use")
	// ErrIdentityConflict ends [Mesh.Run]: an older process with this node's
	// key runs elsewhere. The state directory was copied; each machine needs
	// its own.
	ErrIdentityConflict = errors.New("mesh: another node runs with this node's key")
	// ErrNotRunning is returned by calls that need Run, after it has ended.
	ErrNotRunning = errors.New("mesh: not running")
	// ErrLeft is returned after Leave: this node has said goodbye.
	ErrLeft = errors.New("mesh: this node has left")
)

// Why a node could not be joined. [Mesh.Join] wraps each in a [*JoinError].
var (
	// ErrOtherCluster means that the node belongs to a mesh of another name.
	ErrOtherCluster = errors.New("mesh: it belongs to another mesh")
	// ErrKeyNeeded means that the node's mesh has a key and this node has none.
	ErrKeyNeeded = errors.New("mesh: its mesh has a key and this node has none")
	// ErrKeyMissing means that this node has a key and the other has none.
	ErrKeyMissing = errors.New("mesh: this node has a mesh key and it has none")
	// ErrWrongKey means that both have a key, and the keys differ.
	ErrWrongKey = errors.New("mesh: its mesh has another key")
	// ErrProtocol means that the node speaks another protocol version.
	ErrProtocol = errors.New("mesh: it speaks another protocol version")
	// ErrNoMesh means that something answered that is no kage-mesh.
	ErrNoMesh = errors.New("mesh: no kage-mesh answers there")
	// ErrNoMember means that no member has the id, or that it has left.
	ErrNoMember = errors.New("mesh: no such member")
)

// PortInUseError names the port that another process has.
type PortInUseError struct {
	Network string // "tcp" or "udp"
	Addr    netip.AddrPort
	Err     error
}

func (e *PortInUseError) Error() string {
	return fmt.Sprintf("mesh: %s port %d on %s is in use", e.Network, e.Addr.Port(), e.Addr.Addr())
}

// Is makes errors.Is(err, ErrPortInUse) true.
func (e *PortInUseError) Is(target error) bool { return target == ErrPortInUse }

func (e *PortInUseError) Unwrap() error { return e.Err }

// JoinError says why one address could not be joined.
type JoinError struct {
	Addr string
	Err  error
}

func (e *JoinError) Error() string { return fmt.Sprintf("mesh: join %s: %v", e.Addr, e.Err) }

func (e *JoinError) Unwrap() error { return e.Err }
