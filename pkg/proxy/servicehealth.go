package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// answerChecks answers the health checks of Services by a snapshot, in the families
// whose last sync brought it into force. In another one they are answered as before.
func (p *Proxy) answerChecks(ctx context.Context, snap *rules.Snapshot) {
	for _, f := range p.families {
		if !f.inStep {
			continue
		}
		if err := f.answerChecks(snap); err != nil {
			klog.FromContext(ctx).Error(err, "Not all health checks are answered", "family", f.family)
		}
	}
}

func (f *familySync) answerChecks(snap *rules.Snapshot) error {
	checks := rules.HealthChecks(f.quarantine.unserved(snap), f.family)
	if len(checks) == 0 {
		return f.checks.sync(nil, nil)
	}
	addrs, err := rules.ListenAddresses(&f.config, &snap.Node, ownAddresses)
	if err != nil {
		return err
	}
	return f.checks.sync(checks, addrs)
}

// endChecks answers no health checks any more.
func (p *Proxy) endChecks() {
	for _, f := range p.families {
		f.checks.close()
	}
}

// ownAddresses returns the addresses of the node's interfaces, but for those on which
// one can listen only by naming the interface.
func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of the node's interfaces: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ip.Is4() || ip.Is6() && !ip.IsLinkLocalUnicast() {
			out = append(out, ip)
		}
	}
	return out, nil
}

// serviceHealth answers on the health check node ports of Services in one family.
type serviceHealth struct {
	healthy func() bool
	event   func(ServiceEvent)
	servers map[uint16]*serviceHealthServer
}

// newServiceHealth returns one that has no servers yet. event may be nil: there is
// nobody to tell.
func newServiceHealth(healthy func() bool, event func(ServiceEvent)) *serviceHealth {
	if event == nil {
		event = func(ServiceEvent) {}
	}
	return &serviceHealth{healthy: healthy, event: event, servers: map[uint16]*serviceHealthServer{}}
}

// sync makes the ports that are open those of checks, each on the given
// addresses. A port that cannot be opened is tried again with the next sync; all
// others are served.
func (h *serviceHealth) sync(checks []rules.HealthCheck, addrs []netip.Addr) error {
	wanted := make(map[uint16]bool, len(checks))
	var errs []error
	for i := range checks {
		c := &checks[i]
		wanted[c.Port] = true
		s := h.servers[c.Port]
		if s == nil {
			s = newServiceHealthServer(h.healthy)
			h.servers[c.Port] = s
		}
		s.check.Store(c)
		if err := s.listen(c.Port, addrs); err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: spec.healthCheckNodePort: %w", c.Namespace, c.Name, err))
			h.warn(s, c, err)
		} else {
			s.warned = ""
		}
	}
	for port, s := range h.servers {
		if !wanted[port] {
			_ = s.server.Close()
			delete(h.servers, port)
		}
	}
	return errors.Join(errs...)
}

// warn tells the Service's users once for as long as it lasts, as kube-proxy does.
func (h *serviceHealth) warn(s *serviceHealthServer, c *rules.HealthCheck, err error) {
	service := c.Namespace + "/" + c.Name
	if s.warned == service {
		return
	}
	s.warned = service
	h.event(ServiceEvent{c.Namespace, c.Name, true, "FailedToStartServiceHealthcheck", "Listen",
		fmt.Sprintf("failed to start healthcheck %q on port %d: %v", service, c.Port, err)})
}

// close ends all servers.
func (h *serviceHealth) close() { _ = h.sync(nil, nil) }

// serviceHealthServer is the server of one port.
type serviceHealthServer struct {
	check     atomic.Pointer[rules.HealthCheck]
	healthy   func() bool
	server    *http.Server
	listeners map[netip.Addr]net.Listener
	warned    string // the Service whose users know that not all is answered; empty: all is
}

func newServiceHealthServer(healthy func() bool) *serviceHealthServer {
	s := &serviceHealthServer{healthy: healthy, listeners: map[netip.Addr]net.Listener{}}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second}
	return s
}

// listen opens the port on those addresses that lack it and closes it on others.
func (s *serviceHealthServer) listen(port uint16, addrs []netip.Addr) error {
	wanted := make(map[netip.Addr]bool, len(addrs))
	var errs []error
	for _, a := range addrs {
		wanted[a] = true
		if s.listeners[a] != nil {
			continue
		}
		network := "tcp4"
		if a.Is6() {
			network = "tcp6"
		}
		l, err := net.Listen(network, netip.AddrPortFrom(a, port).String())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.listeners[a] = l
		go func() { _ = s.server.Serve(l) }() // ends with the server or its listener
	}
	for a, l := range s.listeners {
		if !wanted[a] {
			_ = l.Close()
			delete(s.listeners, a)
		}
	}
	return errors.Join(errs...)
}

// serviceHealthAnswer is the body of an answer, with kube-proxy's names.
type serviceHealthAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// ServeHTTP answers 200 if the node has ready endpoints of the Service and the
// rules are up to date, else 503.
func (s *serviceHealthServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c := s.check.Load()
	a := serviceHealthAnswer{LocalEndpoints: c.LocalEndpoints, ServiceProxyHealthy: s.healthy()}
	a.Service.Namespace, a.Service.Name = c.Namespace, c.Name
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(c.LocalEndpoints))
	answer(w, a, c.LocalEndpoints > 0 && a.ServiceProxyHealthy)
}
