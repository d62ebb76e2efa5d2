//go:build linux

package kernel

import (
	"fmt"

	"svcproxy/pkg/rules"
)

// Wire is the devices, neighbours and forwarding tables of the node for one family
// at the moment it was read, which takes no rights; routes and sysctls are read
// when they are asked for.
type Wire struct {
	family     rules.Family
	sysctls    string // where those of net are shown
	links      links
	neighbours []neighbour // the family's
	fdb        []neighbour // of bridges and tunnels
}

// NewWire reads the network that the calling thread is in.
func NewWire(f rules.Family) (*Wire, error) {
	w := &Wire{family: f, sysctls: SysctlDir}
	var err error
	if w.links, err = readLinks(); err != nil {
		return nil, err
	}
	if w.neighbours, err = readNeighbours(netlinkFamily(f)); err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	if w.fdb, err = readNeighbours(bridgeFamily); err != nil {
		return nil, fmt.Errorf("list forwarding tables of bridges: %w", err)
	}
	return w, nil
}
