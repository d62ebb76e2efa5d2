// Package echo has servers that answer every question with the address that it came
// to, and clients that ask them: so a client knows which endpoint of a Service it got
// to.
package echo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Port is where all servers listen.
const Port = 8080

// Servers are those that were started.
type Servers []io.Closer

// Close ends them.
func (s Servers) Close() error {
	var errs []error
	for _, c := range s {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Serve answers over TCP and UDP on all given addresses, in the network namespace of
// the thread.
func Serve(addrs []netip.Addr) (Servers, error) {
	tcp, err := net.Listen("tcp4", fmt.Sprintf(":%d", Port))
	if err != nil {
		return nil, err
	}
	all := Servers{tcp}
	go accept(tcp)
	for _, a := range addrs {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, Port)))
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, udp)
		go reply(udp)
	}
	return all, nil
}

func accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answer(c)
	}
}

// answer answers each byte by a line.
func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	line := []byte(c.LocalAddr().String() + "\n")
	for buf := make([]byte, 1); ; {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

// reply answers each datagram by a line.
func reply(c *net.UDPConn) {
	line := []byte(c.LocalAddr().String() + "\n")
	for buf := make([]byte, 1); ; {
		_, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteToUDPAddrPort(line, from)
		}
	}
}

// Conn is a connection, or what stands for one over UDP.
type Conn struct {
	net.Conn
	lines    *bufio.Reader
	patience time.Duration
}

// Dial opens a connection from an address and port, each of which may be the zero one:
// whatever the kernel takes. The network is tcp or udp; patience is how long that and
// each answer may take.
func Dial(network string, from, to netip.AddrPort, patience time.Duration) (*Conn, error) {
	d := net.Dialer{Timeout: patience}
	switch {
	case !from.IsValid():
	case network == "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	default:
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	c, err := d.Dial(network, to.String())
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReader(c), patience}, nil
}

// Ask sends a question and returns the address of the server that answered it, with
// its port.
func (c *Conn) Ask() (string, error) {
	_ = c.SetDeadline(time.Now().Add(c.patience))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// AskOnce opens a connection, asks, and closes it.
func AskOnce(network string, from, to netip.AddrPort, patience time.Duration) (string, error) {
	c, err := Dial(network, from, to, patience)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return c.Ask()
}
