package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

// chromium is a browser without a window. It is told what to do by messages of its
// DevTools protocol over pipes, each of which ends with a zero, and reaches this host
// and nobody else.
type chromium struct {
	t       *testing.T
	to      *os.File
	said    chan message
	session string // of its only page
	id      int
	events  []message // that came while an answer was waited for
}

// message is one from the browser: an answer if it has an ID, else an event.
type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// patience is how long the browser may take for anything.
const patience = 2 * time.Minute

func newChromium(t *testing.T) *chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		kerneltest.Refuse(t, "chromium is not installed")
	}
	theirIn, to := pipe(t)
	from, theirOut := pipe(t)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+t.TempDir())
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	c := &chromium{t: t, to: to, said: make(chan message, 1000)}
	go c.listen(from)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("chromium: %s", &log)
		}
	})
	c.open()
	return c
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func (c *chromium) listen(from *os.File) {
	defer close(c.said)
	defer func() { _ = from.Close() }()
	for in := bufio.NewReader(from); ; {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) == nil {
			c.said <- m
		}
	}
}

// open opens the page, and has what happens on it told.
func (c *chromium) open() {
	c.t.Helper()
	var target struct{ TargetID string }
	c.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	c.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		c.do(domain+".enable", nil, nil)
	}
}

// do has the browser do something and reads its answer into result; nil: nobody
// needs it.
func (c *chromium) do(method string, params map[string]any, result any) {
	c.t.Helper()
	c.id++
	order := map[string]any{"id": c.id, "method": method}
	if params != nil {
		order["params"] = params
	}
	if c.session != "" {
		order["sessionId"] = c.session
	}
	text, err := json.Marshal(order)
	if err == nil {
		_, err = c.to.Write(append(text, 0))
	}
	if err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	for {
		m := c.next(method)
		switch {
		case m.ID != c.id:
			c.events = append(c.events, m)
			continue
		case m.Error != nil:
			c.t.Fatalf("%s: %s", method, m.Error)
		case result != nil:
			if err := json.Unmarshal(m.Result, result); err != nil {
				c.t.Fatalf("%s: %v: %s", method, err, m.Result)
			}
		}
		return
	}
}

func (c *chromium) next(what string) message {
	c.t.Helper()
	select {
	case m, ok := <-c.said:
		if !ok {
			c.t.Fatalf("%s: chromium has ended", what)
		}
		return m
	case <-time.After(patience):
		c.t.Fatalf("%s: chromium does not answer", what)
		return message{}
	}
}

// visit opens an address and waits until it is loaded.
func (c *chromium) visit(url string) {
	c.t.Helper()
	c.events = nil
	var answer struct{ ErrorText string }
	c.do("Page.navigate", map[string]any{"url": url}, &answer)
	if answer.ErrorText != "" {
		c.t.Fatalf("%s: %s", url, answer.ErrorText)
	}
	for _, m := range c.events {
		if m.Method == "Page.loadEventFired" {
			return
		}
	}
	for {
		m := c.next(url)
		c.events = append(c.events, m)
		if m.Method == "Page.loadEventFired" {
			return
		}
	}
}

// dom is the page as it is now.
func (c *chromium) dom() string {
	c.t.Helper()
	var document struct{ Root struct{ NodeID int } }
	c.do("DOM.getDocument", nil, &document)
	var html struct{ OuterHTML string }
	c.do("DOM.getOuterHTML", map[string]any{"nodeId": document.Root.NodeID}, &html)
	return html.OuterHTML
}

// complaints are what the console has: errors, and what the Content-Security-Policy
// kept out.
func (c *chromium) complaints() []string {
	var out []string
	for _, m := range c.events {
		switch m.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			out = append(out, fmt.Sprintf("%s %s", m.Method, m.Params))
		}
	}
	return out
}

func (c *chromium) scripts(on bool) {
	c.t.Helper()
	c.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// look says how wide the window is, and whether it is "light" or "dark".
func (c *chromium) look(width int, scheme string) {
	c.t.Helper()
	c.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
	c.do("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// screenshot is the whole page as PNG.
func (c *chromium) screenshot() []byte {
	c.t.Helper()
	var picture struct{ Data []byte }
	c.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &picture)
	return picture.Data
}

// number is what a JavaScript expression comes to on the page.
func (c *chromium) number(expression string) float64 {
	c.t.Helper()
	var answer struct{ Result struct{ Value float64 } }
	c.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer)
	return answer.Result.Value
}
