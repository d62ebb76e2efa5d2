package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/hack/internal/surroundings"
	"svcproxy/hack/internal/wait"
)

// target is a Service that clients ask.
type target struct {
	name    string
	network string // tcp or udp
	at      netip.AddrPort
	members *members
}

// The Services that clients ask. The endpoints of steady never change, those of moving
// now and then, the one of news with each fault, and those of crowd when there is a
// storm of changes.
const (
	steady = "steady"
	moving = "moving"
	news   = "news"
	crowd  = "crowd"
)

const (
	manyServices = 100 // that nobody asks: they make the tables a real cluster's
	crowds       = 10  // Services like crowd, that one among them
	crowdSize    = 20  // endpoints of each
)

// services are all Services, and how they change.
type services struct {
	*objects
	targets []*target
	members map[string]*members // by the name of the Service

	changing sync.Mutex // held while nothing may change
	random   *rand.Rand // for whoever holds it
	guests   []string   // Services that came and will go
	visits   int        // Services that came
	told     int        // how often news changed
}

// newServices creates the Services there are at first.
func newServices(ctx context.Context, o *objects, random *rand.Rand) (*services, error) {
	s := &services{objects: o, random: random, members: map[string]*members{}}
	if err := o.node(ctx); err != nil {
		return nil, err
	}
	if err := s.add(ctx, steady, corev1.ServiceTypeNodePort, 1, 2, 3); err != nil {
		return nil, err
	}
	if err := s.add(ctx, moving, corev1.ServiceTypeClusterIP, 4, 5, 6, 7); err != nil {
		return nil, err
	}
	if err := s.add(ctx, news, corev1.ServiceTypeClusterIP, 10); err != nil {
		return nil, err
	}
	for i := range crowds {
		if err := s.add(ctx, crowdName(i), corev1.ServiceTypeClusterIP, s.pods(crowdSize)...); err != nil {
			return nil, err
		}
	}
	for i := range manyServices {
		if err := s.fill(ctx, fmt.Sprintf("many-%d", i)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// crowdName is the name of the i-th Service like crowd; clients ask the first.
func crowdName(i int) string {
	if i == 0 {
		return crowd
	}
	return fmt.Sprintf("%s-%d", crowd, i)
}

// add creates a Service that clients may ask, at all its addresses and ports.
func (s *services) add(ctx context.Context, name string, kind corev1.ServiceType, pods ...int) error {
	svc, err := s.createService(ctx, name, kind)
	if err != nil {
		return err
	}
	m := &members{}
	m.join(answers(pods))
	s.members[name] = m
	if err := s.createEndpoints(ctx, name, pods); err != nil {
		return err
	}
	for _, p := range svc.Spec.Ports {
		ip := netip.MustParseAddr(svc.Spec.ClusterIP)
		s.targets = append(s.targets, &target{name, p.Name, netip.AddrPortFrom(ip, uint16(p.Port)), m})
		if p.NodePort != 0 {
			s.targets = append(s.targets, &target{name + "'s node port", p.Name, netip.AddrPortFrom(surroundings.NodeAddress, uint16(p.NodePort)), m})
		}
	}
	return nil
}

// fill creates a Service that nobody asks.
func (s *services) fill(ctx context.Context, name string) error {
	if _, err := s.createService(ctx, name, corev1.ServiceTypeClusterIP); err != nil {
		return err
	}
	return s.createEndpoints(ctx, name, s.pods(3))
}

// pods chooses so many pods.
func (s *services) pods(n int) []int {
	out := s.random.Perm(surroundings.MaxPods)[:n]
	for i := range out {
		out[i]++
	}
	return out
}

// move gives a Service other endpoints.
func (s *services) move(ctx context.Context, name string, pods []int) error {
	m, now := s.members[name], answers(pods)
	m.join(now)
	err := s.setEndpoints(ctx, name, pods)
	if err == nil {
		m.leave(now)
	}
	return err
}

// tell gives news another endpoint and returns what that answers with. It goes on
// until the API server takes it.
func (s *services) tell(ctx context.Context) (string, error) {
	s.told++
	pod := 10 + s.told%8 // never the same one twice in a row
	for {
		err := s.move(ctx, news, []int{pod})
		if err == nil {
			return answers([]int{pod})[0], nil
		}
		if wait.Sleep(ctx, 50*time.Millisecond) != nil {
			return "", err
		}
	}
}

// keepChanging changes this and that, as it is in a cluster, until ctx ends. What the
// API server does not take is left.
func (s *services) keepChanging(ctx context.Context) {
	for wait.Sleep(ctx, 300*time.Millisecond) == nil {
		s.changing.Lock()
		switch s.random.IntN(3) {
		case 0:
			_ = s.move(ctx, moving, s.pods(4))
		case 1:
			_ = s.come(ctx)
		default:
			_ = s.goAway(ctx)
		}
		s.changing.Unlock()
	}
}

// come has a Service come. The caller holds changing.
func (s *services) come(ctx context.Context) error {
	name := fmt.Sprintf("guest-%d", s.visits)
	s.visits++
	s.guests = append(s.guests, name)
	return s.fill(ctx, name)
}

// goAway has the Service go that came first, if there is one. The caller holds
// changing.
func (s *services) goAway(ctx context.Context) error {
	if len(s.guests) == 0 {
		return nil
	}
	name := s.guests[0]
	s.guests = s.guests[1:]
	return s.deleteService(ctx, name)
}

// kept is what connections that stay open lead to.
func (s *services) kept(network string) *target {
	i := slices.IndexFunc(s.targets, func(t *target) bool { return t.name == steady && t.network == network })
	return s.targets[i]
}
