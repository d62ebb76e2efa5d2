// Package kernel reads and writes the netfilter tables of the node. It is the
// only package that touches the machine; it knows chains and no Services. Elsewhere than
// on Linux it can do nothing of it, and says so.
package kernel

import "errors"

// Backend is one of the two implementations of iptables. Rules of one are
// invisible to the other's commands, but the kernel applies both.
type Backend string

const (
	Auto   Backend = "auto"
	NFT    Backend = "nft"
	Legacy Backend = "legacy"
)

// Interference is what others may have done to our chains, or to the built-in
// chains that lead to them, since the last Read or Apply.
type Interference struct {
	// Seen: somebody wrote. Only a Read can tell whether that did harm; until then
	// it stays seen.
	Seen bool
	// Unsure: nothing was seen, but a write at the very moment of our own could
	// have been missed.
	Unsure bool
	// By names who wrote, as "nft (pid 4711)", some of them if they are many. It is
	// empty where the kernel does not say it, as with the legacy backend.
	By []string
}

// Saved is all tables that one backend has of a family, whoever wrote their rules.
type Saved struct {
	Backend Backend
	Text    []byte // as iptables-save -c prints them
	Err     error  // why they could not be read, where those of the other backend could
}

var (
	// ErrNotPermitted says that the tables may not be read.
	ErrNotPermitted = errors.New("the tables may not be read")
	// ErrNotInstalled says that there is nothing to read them with.
	ErrNotInstalled = errors.New("no iptables backend is installed")
	// ErrUndecided says that it was not found out whether the kernel has usable tables.
	ErrUndecided = errors.New("cannot tell whether the tables can be used")
)
