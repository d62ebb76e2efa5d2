package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"svcproxy/pkg/status"
)

// now is the time on the pages of tests.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fake is a source with the Services that a test gives it.
type fake struct {
	mu       sync.Mutex
	node     status.Node
	services []status.Service
	queries  []status.Query
	slow     time.Duration // how long a report takes at least
	err      error
}

// rename gives the first Service another name.
func (f *fake) rename(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.services[0].Namespace, f.services[0].Name, _ = strings.Cut(name, "/")
}

func (f *fake) Report(_ context.Context, q *status.Query, begin func(*status.Report) error, each func(*status.Service) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, *q)
	time.Sleep(f.slow)
	if f.err != nil {
		return f.err
	}
	var chosen []status.Service
	var names []status.Name
	for _, s := range f.services {
		names = append(names, status.Name{Namespace: s.Namespace, Name: s.Name})
		if q.Has(s.Namespace, s.Name) && (!q.Trouble || s.Trouble()) {
			chosen = append(chosen, s)
		}
	}
	shown := status.Page(q, chosen)
	node := f.node
	node.Services = len(f.services)
	r := &status.Report{APIVersion: status.APIVersion, Node: node, Selection: status.Selection{
		Total: len(f.services), Matched: len(chosen), Offset: q.Offset, Shown: len(shown), Unknown: status.Missed(q.Names, names),
	}}
	if err := begin(r); err != nil {
		return err
	}
	for i := range shown {
		if err := each(&shown[i]); err != nil {
			return err
		}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

// sample is a node with a Service of each kind that the page shows.
func sample() *fake {
	f := &fake{node: status.Node{
		Name: "centos100", Source: status.FromProxy, Version: "v1.2.3", Backend: "nft", Now: now, Healthy: ptr(true),
		Families: []status.Family{{
			Family: "IPv4", Endpoints: 8, Rules: status.RuleCounts{Filter: 12, Nat: 61}, Sync: &status.Sync{Last: ptr(now.Add(-3 * time.Second)), Seconds: 0.0123},
			Drift: &status.Drift{Count: 3, Last: now.Add(-5 * time.Minute), By: []string{"nft (pid 4711)"}, Kinds: []status.DriftKind{{Table: "nat", Kind: "chain_changed", Count: 3}}},
		}, {
			Family: "IPv6", Sync: &status.Sync{Last: ptr(now.Add(-3 * time.Second)), Seconds: 0.004},
			Missing: []status.Missing{{Name: "match recent", Without: "session affinity is not kept"}},
		}},
	}}
	f.services = []status.Service{web(3, 410), web(1, 0), web(40, 4000), refusing(), both()}
	for i, name := range []string{"web", "quiet", "many", "cart", "edge"} {
		f.services[i].Name = name
	}
	f.services[0].Changed = &status.Change{At: now.Add(-5 * time.Minute), Seconds: 0.071}
	f.services[1].Quarantine = []status.Quarantine{{
		Family: "IPv4", Service: "shop/quiet:http", InForce: "connections are refused", Since: now.Add(-time.Hour), Next: now.Add(time.Minute),
		Reason: "iptables-restore: line 7 failed", Rule: `-A KUBE-SEP-AAAA -m recent --name "x" -j DNAT`,
	}}
	f.node.Families[0].Refused = f.services[1].Quarantine
	return f
}

// web is a Service with n endpoints that have had connections, all over the cluster.
func web(n int, connections uint64) status.Service {
	chain := "KUBE-SVC-CMGMSCGHDBTF4CTN"
	p := status.Port{Name: "http", Protocol: "tcp", Port: 80,
		Addresses: []status.Address{{Family: "IPv4", Role: "ClusterIP", Address: "10.101.231.134:80", Chain: chain}},
		Balances:  []status.Balance{{Family: "IPv4", Policy: status.PolicyCluster, Chain: chain, Endpoints: n, Connections: &connections}},
	}
	for i := range n {
		e := status.Endpoint{
			Family: "IPv4", Address: fmt.Sprintf("10.21.%d.%d:8080", i%4, i+2), Node: fmt.Sprintf("centos10%d", i%4), State: status.Ready,
			Chain:  "KUBE-SEP-ADWVONN5J4AU467Y",
			Shares: []status.Share{{Policy: status.PolicyCluster, Wanted: 1 / float64(n), Connections: ptr(connections / uint64(n))}},
		}
		if connections > 0 {
			e.Shares[0].Measured = ptr((1 + 0.05*float64(i%3-1)) / float64(n))
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	p.Endpoints = append(p.Endpoints, status.Endpoint{Family: "IPv4", Address: "10.21.9.9:8080", Node: "centos103", State: status.Unready})
	return status.Service{Namespace: "shop", Internal: status.PolicyCluster, Ports: []status.Port{p}}
}

// refusing is a Service without endpoints.
func refusing() status.Service {
	return status.Service{Namespace: "shop", Internal: status.PolicyCluster, Ports: []status.Port{{
		Protocol: "tcp", Port: 80, Addresses: []status.Address{{Family: "IPv4", Role: "ClusterIP", Address: "10.101.3.3:80", Refused: status.RefusedAll}},
	}}}
}

// both is a Service with both policies, source ranges and a node port.
func both() status.Service {
	s := web(3, 100)
	s.External, s.Affinity = status.PolicyLocal, 10800
	p := &s.Ports[0]
	p.NodePort = 30080
	const hash = "CMGMSCGHDBTF4CTN"
	p.Addresses = append(p.Addresses,
		status.Address{Family: "IPv4", Role: "LoadBalancerIP", Address: "203.0.113.9:80", Chain: "KUBE-FW-" + hash},
		status.Address{Family: "IPv4", Role: "NodePort", Address: ":30080", Chain: "KUBE-EXT-" + hash})
	p.Balances = append(p.Balances, status.Balance{Family: "IPv4", Policy: status.PolicyLocal, Chain: "KUBE-SVL-" + hash, Endpoints: 1, Connections: ptr[uint64](9)})
	p.Endpoints[0].Shares = append(p.Endpoints[0].Shares, status.Share{Policy: status.PolicyLocal, Wanted: 1, Measured: ptr(1.0), Connections: ptr[uint64](9)})
	return s
}

// A page that takes long to make is not made often.
func TestHowOftenAPageIsMade(t *testing.T) {
	for took, want := range map[time.Duration]int{0: 5, 30 * time.Millisecond: 5, 100 * time.Millisecond: 15, time.Second: 150} {
		if got := refresh(took); got != want {
			t.Errorf("one that took %v: every %d seconds, want %d", took, got, want)
		}
	}
	f := sample()
	f.slow = 40 * time.Millisecond
	h := handler(t, f, nil)
	for _, path := range []string{"/", "/page/service/shop/web"} {
		text := get(t, h, path, http.StatusOK)
		said := regexp.MustCompile(`data-seconds="(\d+)"><span>Updated every (\d+) seconds`).FindStringSubmatch(text)
		if said == nil || said[1] != said[2] || said[1] == "5" {
			t.Errorf("%s takes 40 ms each time, and says %q", path, said)
		}
	}
}

func handler(t *testing.T, f *fake, trace Tracer) http.Handler {
	t.Helper()
	h, err := New(f, trace)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// get returns a page, which must be well-formed HTML with the headers that keep others out.
func get(t *testing.T, h http.Handler, path string, code int) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != code {
		t.Errorf("%s: %d, want %d: %s", path, w.Code, code, w.Body)
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("%s: the policy %q has no %s", path, csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: %v", path, w.Header())
	}
	text := w.Body.String()
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		checkHTML(t, path, text)
	}
	return text
}

// checkHTML fails for tags that are not closed in their order, styles and scripts in
// the text, and addresses of others.
func checkHTML(t *testing.T, path, text string) {
	t.Helper()
	var open []string
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			if z.Err() != io.EOF || len(open) > 0 {
				t.Errorf("%s: %v, not closed: %v", path, z.Err(), open)
			}
			return
		}
		token := z.Token()
		for _, a := range token.Attr {
			own := strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "#")
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || (a.Key == "href" || a.Key == "src" || a.Key == "action") && !own {
				t.Errorf("%s: <%s %s=%q>", path, token.Data, a.Key, a.Val)
			}
		}
		switch kind {
		case html.StartTagToken:
			if void := " meta link input br "; !strings.Contains(void, " "+token.Data+" ") {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("%s: </%s> within %v", path, token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func expectAll(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %s in\n%s", want, text)
		}
	}
}

func TestTheListShowsTheNodeAndItsServices(t *testing.T) {
	text := get(t, handler(t, sample(), nil), "/", http.StatusOK)
	expectAll(t, text, "in step with the cluster", "iptables-nft", "svcproxy v1.2.3", "5 Services", "synced 3s ago, in 12ms",
		"shop/quiet:http is in quarantine", "3 set right, the last 5m ago after nft (pid 4711)", "the kernel lacks match recent",
		`href="/page/service/shop/web"`, "10.101.231.134:80", "33.3%", "31.7%", "5m ago, in 71ms", "no endpoint: refused", "and 37 more", "1 to 5 of 5")
	if strings.Contains(text, "/page/trace") {
		t.Error("there is a form for traces that nobody makes")
	}
}

func TestTheListIsFilteredAndPaged(t *testing.T) {
	f := sample()
	h := handler(t, f, nil)
	text := get(t, h, "/?search=+WEB+&sort=changed&trouble=", http.StatusOK)
	if q := f.queries[0]; q.Search != "web" || q.Sort != status.ByChange || q.Trouble || q.Limit != perPage || !q.Counters || q.Flows {
		t.Errorf("asked for %+v", q)
	}
	expectAll(t, text, `value="web"`, `<option value="changed" selected>`, "show all", "1 to 1 of 1 that match, of 5 in all")
	f.services = nil
	for i := range 250 {
		s := web(1, 0)
		s.Name = fmt.Sprintf("s%03d", i)
		f.services = append(f.services, s)
	}
	text = get(t, h, "/?offset=100", http.StatusOK)
	expectAll(t, text, "101 to 200 of 250", `href="/?offset=200" rel="next"`, `href="/" rel="prev"`)
	if n := strings.Count(text, "<tbody>"); n != 100 {
		t.Errorf("%d Services on a page", n)
	}
	for path, want := range map[string]string{"/?offset=x": "offset: &#34;x&#34;", "/?sort=size": "sort: &#34;size&#34;"} {
		expectAll(t, get(t, h, path, http.StatusBadRequest), want)
	}
}

func TestAServiceHasAPictureOfItsChains(t *testing.T) {
	h := handler(t, sample(), nil)
	text := get(t, h, "/page/service/shop/web", http.StatusOK)
	expectAll(t, text, "<svg class=\"picture", "KUBE-SERVICES", "KUBE-SVC-CMGMSCGHDBTF4CTN", "10.21.0.2:8080", "on centos100", "measured 31.7%, 136 connections", "not ready")
	expectAll(t, get(t, h, "/page/service/shop/cart", http.StatusOK), "refused", "There are no endpoints")
	expectAll(t, get(t, h, "/page/service/shop/quiet", http.StatusOK), "iptables-restore: line 7 failed", "-m recent --name &#34;x&#34; -j DNAT")
	expectAll(t, get(t, h, "/page/service/shop/edge", http.StatusOK), "KUBE-NODEPORTS", "KUBE-FW-", "KUBE-EXT-", "KUBE-SVL-", "client IP, for 3h0m0s")
	expectAll(t, get(t, h, "/page/service/shop/wbe", http.StatusNotFound), "there is no Service shop/wbe on this node; there is shop/web")
}

// Whatever names and messages hold is text.
func TestTextIsEscaped(t *testing.T) {
	f := sample()
	const evil = `<script>alert("x")</script>`
	f.node.Name, f.node.Version = evil, evil
	f.node.Families[0].Sync.Error = evil
	f.services[0].Ports[0].Name = evil
	f.services[0].Ports[0].Endpoints[0].Node = evil
	f.services[1].Quarantine[0].Rule = evil
	trace := func(_ context.Context, from, _, _ string) (string, error) { return from, errors.New(evil) }
	h := handler(t, f, trace)
	for _, path := range []string{"/", "/?search=" + url.QueryEscape(`"`+evil), "/page/service/shop/web", "/page/service/shop/quiet", "/page/service/shop/" + url.PathEscape(evil[:8]),
		"/page/trace?to=x&from=" + url.QueryEscape(evil), "/?sort=" + url.QueryEscape(evil)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if strings.Contains(w.Body.String(), "<script>") || strings.Contains(w.Body.String(), "alert(\"") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func TestTheTraceForm(t *testing.T) {
	var asked []string
	trace := func(_ context.Context, from, to, protocol string) (string, error) {
		asked = []string{from, to, protocol}
		if to == "nowhere" {
			return "", errors.New("no Service nowhere")
		}
		return "goes to <10.21.3.2>", nil
	}
	h := handler(t, sample(), trace)
	expectAll(t, get(t, h, "/", http.StatusOK), `action="/page/trace"`)
	expectAll(t, get(t, h, "/page/service/shop/web", http.StatusOK), `name="to" value="shop/web:80"`)
	expectAll(t, get(t, h, "/page/trace?from=node&to=shop%2Fweb&proto=udp", http.StatusOK), "goes to &lt;10.21.3.2&gt;", `value="shop/web"`, "<option selected>udp")
	if strings.Join(asked, " ") != "node shop/web udp" {
		t.Errorf("asked for %v", asked)
	}
	expectAll(t, get(t, h, "/page/trace?to=nowhere", http.StatusOK), "no Service nowhere")
	asked = nil
	other := httptest.NewRequest(http.MethodGet, "/page/trace?to=x", nil)
	other.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, other); w.Code != http.StatusForbidden || asked != nil {
		t.Errorf("another page may have packets traced: %d, %v", w.Code, asked)
	}
	if get(t, h, "/page/trace", http.StatusOK); asked != nil {
		t.Errorf("an empty form is traced: %v", asked)
	}
}

func TestFailuresAreTold(t *testing.T) {
	f := sample()
	f.err = errors.New("the kernel says no")
	for _, path := range []string{"/", "/page/service/shop/web"} {
		expectAll(t, get(t, handler(t, f, nil), path, http.StatusInternalServerError), "the kernel says no")
	}
	get(t, handler(t, f, nil), "/page/none", http.StatusNotFound)
}

// Boxes do not lie on each other, all is within the picture, and each line's ends are
// at boxes.
func TestPicturesAreInOrder(t *testing.T) {
	for _, s := range sample().services {
		p := Draw(&s, &s.Ports[0], "IPv4")
		if len(p.Boxes) < 2 {
			t.Errorf("%s: %d boxes", s.Name, len(p.Boxes))
		}
		for i, a := range p.Boxes {
			if a.X < 0 || a.Y < 0 || a.X+a.W > p.Width || a.Y+a.H > p.Height {
				t.Errorf("%s: a box at %d,%d is not in the picture of %d x %d", s.Name, a.X, a.Y, p.Width, p.Height)
			}
			for _, b := range p.Boxes[:i] {
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: %v lies on %v", s.Name, a.Text, b.Text)
				}
			}
		}
		if len(p.Lines) < len(p.Boxes)-3 {
			t.Errorf("%s: %d lines for %d boxes", s.Name, len(p.Lines), len(p.Boxes))
		}
	}
}
