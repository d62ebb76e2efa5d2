package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// Predecessor is a service proxy that may still run on the node, kube-proxy or
// another svcproxy. Two of them undo each other's rules.
type Predecessor struct {
	// Listen is where this proxy is going to listen; an empty address counts for nothing.
	Listen []Listener
	// Known are addresses, as host:port, at which a service proxy of this node may
	// answer, whether or not this proxy listens there.
	Known []string
	// Patience is how long Await waits for it to end.
	Patience time.Duration
}

// Listener is a flag and the address that it has for a server.
type Listener struct{ Flag, Address string }

// KnownAddresses are kube-proxy's own, on which svcproxy listens as well.
func KnownAddresses() []string {
	return []string{"127.0.0.1:10249", "[::1]:10249", "127.0.0.1:10256", "[::1]:10256"}
}

// predecessorPeriod is the time from one look to the next.
const predecessorPeriod = 250 * time.Millisecond

// Await returns once no other service proxy answers and nobody holds the ports of
// this one. One that is just ending, as when a DaemonSet takes another's place, is
// waited for; the error names what is still there after that.
func (p *Predecessor) Await(ctx context.Context) error {
	began := time.Now()
	for first := true; ; first = false {
		err := p.find(ctx)
		switch {
		case err == nil && first:
			return nil
		case err == nil:
			klog.FromContext(ctx).Info("The other service proxy has ended", "after", time.Since(began).Round(time.Millisecond))
			return nil
		case time.Since(began) >= p.Patience:
			return err
		case first:
			klog.FromContext(ctx).Info("Waiting for another service proxy to end", "patience", p.Patience, "found", err.Error())
		}
		select {
		case <-time.After(predecessorPeriod):
		case <-ctx.Done():
			return fmt.Errorf("waiting for another service proxy to end: %w: %w", err, context.Cause(ctx))
		}
	}
}

// TakenError says that another service proxy runs, or that somebody listens where
// this one is to.
type TakenError struct {
	Flags []string // those whose addresses are taken
	text  string
}

func (e *TakenError) Error() string { return e.text }

// find returns what of a predecessor is here as an error, or nil.
func (p *Predecessor) find(ctx context.Context) error {
	var found []string
	for _, a := range p.Known {
		if who := identify(ctx, a); who != "" {
			found = append(found, a+" answers as "+who)
		}
	}
	var flags, held []string
	for _, l := range p.Listen {
		if taken(l.Address) {
			flags = append(flags, l.Flag)
			held = append(held, fmt.Sprintf("--%s: %s is taken by %s", l.Flag, l.Address, holder(ctx, l.Address)))
		}
	}
	switch {
	case len(found) > 0:
		return &TakenError{flags, "another service proxy runs on this node: " + strings.Join(found, ", ") +
			"; two undo each other's rules: stop it, its rules stay in force and are taken over (docs/migrate.md)"}
	case len(held) > 0:
		return &TakenError{flags, strings.Join(held, ", ") +
			"; stop that, or choose another address; a service proxy's rules stay in force and are taken over (docs/migrate.md)"}
	}
	return nil
}

// taken reports whether somebody listens at an address. Why else nobody could is
// for the server to say.
func taken(address string) bool {
	if address == "" {
		return false
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// holder says what listens at an address.
func holder(ctx context.Context, address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && slices.Contains([]string{"", "0.0.0.0", "::"}, host) {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	if who := identify(ctx, address); who != "" {
		return who
	}
	return "a program that does not answer as a service proxy"
}

// identify says which service proxy answers at an address; empty: none does. It
// tells one by the paths that kube-proxy has: the mode on the metrics port, and a
// health that is about updates.
func identify(ctx context.Context, address string) string {
	switch mode := fetch(ctx, address, "/proxyMode"); mode {
	case "":
		return "" // no answer, and none worth waiting for
	case "iptables", "ipvs", "nftables", "kernelspace":
		return "a service proxy in mode " + mode
	}
	var health struct {
		LastUpdated string `json:"lastUpdated"`
		CurrentTime string `json:"currentTime"`
	}
	if json.Unmarshal([]byte(fetch(ctx, address, "/healthz")), &health) == nil && health.LastUpdated != "" && health.CurrentTime != "" {
		return "a service proxy, whose health was last updated " + health.LastUpdated
	}
	return ""
}

// Who listens on loopback answers at once, if at all.
const (
	answerTimeout = time.Second
	maxAnswer     = 4096 // bytes
)

// fetch returns the body of an answer, whatever its status; empty: there is none.
func fetch(ctx context.Context, address, path string) string {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return ""
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy of the environment
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return strings.TrimSpace(string(body))
}
