package packets

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

// inside runs f in the namespace of a host.
func (n *network) inside(host string, f func()) {
	n.t.Helper()
	if err := kerneltest.Inside(n.namespace(host), f); err != nil {
		n.t.Fatalf("enter the namespace of %s: %v", host, err)
	}
}

// serve answers, on TCP and UDP, on every address of a host, with the address
// that was asked and the address that the question came from.
func (n *network) serve(host string, port uint16) {
	n.inside(host, func() {
		for _, a := range n.hosts[host].addrs {
			at := netip.AddrPortFrom(a, port)
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err != nil {
				n.t.Errorf("listen on %s: %v", at, err)
				return
			}
			u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			if err != nil {
				n.t.Errorf("listen on %s: %v", at, err)
				return
			}
			n.t.Cleanup(func() { _, _ = l.Close(), u.Close() })
			go answerTCP(l, at)
			go answerUDP(u, at)
		}
	})
}

func answerTCP(l *net.TCPListener, at netip.AddrPort) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, report(at, c.RemoteAddr().(*net.TCPAddr).AddrPort()))
		_ = c.Close()
	}
}

func answerUDP(u *net.UDPConn, at netip.AddrPort) {
	buf := make([]byte, 16)
	for {
		_, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = u.WriteToUDPAddrPort([]byte(report(at, from)), from)
	}
}

func report(at, from netip.AddrPort) string {
	return at.String() + " " + from.Addr().Unmap().String()
}

// outcome is what a client saw of one connection.
type outcome struct {
	server  netip.AddrPort // invalid: none answered
	source  netip.Addr     // of the client, as the server saw it
	refused bool           // else, if no server answered, nobody did
}

func (o outcome) String() string {
	switch {
	case o.server.IsValid():
		return fmt.Sprintf("%s, which saw %s", o.server, o.source)
	case o.refused:
		return "refused"
	}
	return "no answer"
}

// A client waits long for what should come, on a busy machine too; a refusal takes
// a second over IPv6, as the kernel overlooks the first one that a TCP socket gets
// and sends its SYN again. For what should never come it does not wait long.
const (
	patience         = 10 * time.Second
	patienceForDrops = 250 * time.Millisecond
)

// try connects once from the namespace that the caller is in.
func try(network string, src netip.Addr, dst netip.AddrPort, patience time.Duration) outcome {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: src.AsSlice()}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: src.AsSlice()}
	}
	c, err := d.Dial(network, dst.String())
	if err != nil {
		return outcome{refused: errors.Is(err, syscall.ECONNREFUSED)}
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		// A packet that the node refuses to its own process fails here as well as
		// below; only the second says which way it was refused.
		_, _ = c.Write([]byte("?"))
	}
	buf := make([]byte, 256)
	size, err := c.Read(buf)
	if err != nil {
		return outcome{refused: errors.Is(err, syscall.ECONNREFUSED)}
	}
	server, source, _ := strings.Cut(string(buf[:size]), " ")
	out := outcome{}
	if out.server, err = netip.ParseAddrPort(server); err == nil {
		out.source, _ = netip.ParseAddr(source)
	}
	return out
}
