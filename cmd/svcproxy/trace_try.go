package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"svcproxy/pkg/rules"
)

// wireTry is a connection that was made to an endpoint, from this node.
type wireTry struct {
	Dst     netip.AddrPort `json:"to"`
	Outcome string         `json:"outcome"`
}

// What Outcome may be.
const (
	tryAnswers = "answers"
	tryRefused = "refused"
	trySilent  = "no answer"
)

const (
	mostTries   = 16
	tryPatience = 2 * time.Second
)

// tryEndpoints connects over TCP to the endpoints that a packet may get to, and sends
// nothing then.
func (t *tracer) tryEndpoints(ctx context.Context) {
	r := t.report
	if r.Protocol != rules.TCP {
		r.Remarks = append(r.Remarks, "--try: only TCP says whether somebody listens")
		return
	}
	var at []netip.AddrPort
	for i := range r.Ends {
		if e := &r.Ends[i]; r.gets(e) && !slices.Contains(at, e.Dst) && len(at) < mostTries {
			at = append(at, e.Dst)
		}
	}
	r.Wire.Tries = make([]wireTry, len(at))
	var wg sync.WaitGroup
	for i, dst := range at {
		wg.Go(func() { r.Wire.Tries[i] = wireTry{dst, tryConnect(ctx, dst)} })
	}
	wg.Wait()
}

func tryConnect(ctx context.Context, dst netip.AddrPort) string {
	conn, err := (&net.Dialer{Timeout: tryPatience}).DialContext(ctx, "tcp", dst.String())
	switch {
	case err == nil:
		_ = conn.Close()
		return tryAnswers
	case errors.Is(err, syscall.ECONNREFUSED):
		return tryRefused
	}
	return trySilent
}

// explainTries names the endpoints that do not take a connection.
func (t *tracer) explainTries() {
	r := t.report
	for _, try := range r.Wire.Tries {
		switch try.Outcome {
		case tryRefused:
			r.because(codeEndpointRefuses, fmt.Sprintf("%s itself refuses connections: nothing listens at that port there, or only on 127.0.0.1.", try.Dst),
				t.serviceCommand("-o jsonpath={.spec.ports}"), "ss --listening --tcp --numeric, in the pod")
		case trySilent:
			r.because(codeEndpointSilent, fmt.Sprintf("%s does not answer this node within %s: another node, a firewall between them, or a NetworkPolicy keeps the packet or the answer.", try.Dst, tryPatience),
				"svcproxy trace, on the endpoint's node", "tcpdump -ni any host "+try.Dst.Addr().String())
		default:
			continue
		}
		r.but = true
	}
}
