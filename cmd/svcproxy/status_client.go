package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"svcproxy/pkg/status"
)

const statusPath = "/status"

// statusTimeout is many times what the largest answer takes.
const statusTimeout = 10 * time.Second

// statusClient asks the svcproxy that runs on this node.
type statusClient struct {
	address string // host:port
	http    *http.Client
}

// errNotTold is an address where nobody answers who tells a status.
var errNotTold = errors.New("no status to be had")

// newStatusClient returns a client of what serves --metrics-bind-address.
func newStatusClient(address string) (*statusClient, error) {
	at, err := netip.ParseAddrPort(address)
	switch at = onNode(at); {
	case address == "":
		return nil, fmt.Errorf("%w: --%s is empty", errNotTold, metricsFlag)
	case err != nil:
		return nil, usagef("--%s: %q: must be an address with a port", metricsFlag, address)
	case !at.Addr().IsLoopback():
		return nil, fmt.Errorf("%w: --%s is %s, and a status is served on loopback addresses alone", errNotTold, metricsFlag, address)
	}
	// No proxy of the environment: what is asked for is on this node.
	return &statusClient{at.String(), &http.Client{Timeout: statusTimeout, Transport: &http.Transport{}}}, nil
}

// onNode is where to ask what serves an address: on loopback if it serves all, as
// svcproxy tells most there alone.
func onNode(at netip.AddrPort) netip.AddrPort {
	switch {
	case at.Addr() == netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	case at.Addr() == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())
	}
	return at
}

func (c *statusClient) report(ctx context.Context, q *status.Query) (*status.Report, error) {
	text, err := c.get(ctx, q.Values())
	if err != nil {
		return nil, err
	}
	var r status.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("the status of svcproxy at %s: %w", c.address, err)
	}
	if r.APIVersion != status.APIVersion {
		return nil, fmt.Errorf("svcproxy at %s speaks %q, and this program %q: run the svcproxy of the same version", c.address, r.APIVersion, status.APIVersion)
	}
	return &r, nil
}

// maxStatus bounds an answer: a Service of 1,000 endpoints has 250 kB.
const maxStatus = 1 << 30

func (c *statusClient) get(ctx context.Context, query url.Values) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: c.address, Path: statusPath, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: nobody answers at %s (%s)", errNotTold, c.address, rootCause(err))
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxStatus))
	switch {
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("%w: what answers at %s says %s", errNotTold, c.address, answer.Status)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("svcproxy at %s: %s: %s", c.address, answer.Status, strings.TrimSpace(string(text)))
	case err != nil:
		return nil, fmt.Errorf("the status of svcproxy at %s: %w", c.address, err)
	case !status.Complete(text):
		return nil, fmt.Errorf("the status of svcproxy at %s ends before its end: see its log", c.address)
	}
	return text, nil
}

// rootCause is the error without the URL that was asked for.
func rootCause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}
