package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
)

// ErrPeer means that the other side of a connection is not who it should be:
// it showed no key, another node's key, or one that is not let in.
var ErrPeer = errors.New("identity: peer refused")

// PeerError says which node was met where another was wanted.
type PeerError struct {
	Got  NodeID // "" when it showed no usable key
	Want NodeID // "" when any node that is let in would do
	Err  error  // why
}

func (e *PeerError) Error() string {
	switch {
	case e.Got == "":
		return "identity: peer refused: " + e.Err.Error()
	case e.Want == "":
		return fmt.Sprintf("identity: peer %s refused: %v", e.Got, e.Err)
	}
	return fmt.Sprintf("identity: peer is %s, wanted %s: %v", e.Got, e.Want, e.Err)
}

func (e *PeerError) Unwrap() []error { return []error{ErrPeer, e.Err} }

var (
	errNoCert     = errors.New("it showed no certificate")
	errKeyType    = errors.New("its key is not Ed25519")
	errNotAllowed = errors.New("it is no member of this mesh")
	errOtherNode  = errors.New("another node answers at this address")
	errOldTLS     = errors.New("it speaks less than TLS 1.3")
)

// protocols that peers speak: HTTP/2, and HTTP/1.1 for tools.
var protocols = []string{"h2", "http/1.1"}

// ServerTLS is the configuration of a peer listener. Only TLS 1.3 is spoken,
// and only with clients that prove to hold the key of an id for which allow
// returns true; allow is asked for every connection, also resumed ones, and
// must be fast and safe for concurrent use.
func (i *Identity) ServerTLS(allow func(NodeID) bool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{i.cert},
		NextProtos:   protocols,
		// "Any": no chain is looked at. That the client holds the key of the
		// certificate it shows is proved by its CertificateVerify message.
		ClientAuth: tls.RequireAnyClientCert,
		// VerifyPeerCertificate would not be called on resumed sessions, and a
		// node evicted meanwhile would still get in.
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := peerOf(&cs)
			if err != nil {
				return &PeerError{Err: err}
			}
			if !allow(id) {
				return &PeerError{Got: id, Err: errNotAllowed}
			}
			return nil
		},
	}
}

// ClientTLS is the configuration for one peer: the handshake fails unless the
// other side proves to be want. No server name is sent, so that an observer of
// the link does not learn ids.
func (i *Identity) ClientTLS(want NodeID) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{i.cert},
		NextProtos:         protocols,
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
		// Chains and names mean nothing here: VerifyConnection compares the key
		// itself, which is stricter.
		InsecureSkipVerify: true, //nolint:gosec // pinned below
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := peerOf(&cs)
			if err != nil {
				return &PeerError{Want: want, Err: err}
			}
			if id != want {
				return &PeerError{Got: id, Want: want, Err: errOtherNode}
			}
			return nil
		},
	}
}

// peerOf is the id of the key that the other side of cs proved to hold.
func peerOf(cs *tls.ConnectionState) (NodeID, error) {
	if cs.Version < tls.VersionTLS13 {
		return "", errOldTLS
	}
	if len(cs.PeerCertificates) == 0 {
		return "", errNoCert
	}
	return certID(cs.PeerCertificates[0])
}

func certID(cert *x509.Certificate) (NodeID, error) {
	pub, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", errKeyType
	}
	return FromPublic(pub), nil
}

// PeerID is the node that sent r over a peer listener (see
// [Identity.ServerTLS]); false for requests that came in any other way.
func PeerID(r *http.Request) (NodeID, bool) {
	if r.TLS == nil {
		return "", false
	}
	id, err := peerOf(r.TLS)
	return id, err == nil
}
