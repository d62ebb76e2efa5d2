package page

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A browser shows the page with JavaScript and without, wide and narrow, in light and
// in dark, and has nothing to complain about. SVCPROXY_TEST_SCREENSHOTS names a folder
// for pictures of it, to be looked at.
func TestABrowserShowsThePage(t *testing.T) {
	s := httptest.NewServer(handler(t, sample(), func(context.Context, string, string, string) (string, error) { return "it arrives", nil }))
	defer s.Close()
	b := newChromium(t)
	for _, c := range []struct {
		name, path, want string
		scripts          bool
		width            int
		scheme           string
	}{
		{"list", "/", "10.101.231.134:80", true, 1360, "light"},
		{"list-dark", "/", "no endpoint: refused", false, 1360, "dark"},
		{"list-narrow", "/", "and 37 more", false, 420, "light"},
		{"service", "/page/service/shop/edge", "KUBE-SVL-CMGMSCGHDBTF4CTN", true, 1360, "light"},
		{"service-dark", "/page/service/shop/many", "29 more endpoints", false, 1360, "dark"},
		{"service-narrow", "/page/service/shop/web", "KUBE-SERVICES", true, 420, "dark"},
		{"trace", "/page/trace?to=shop/web", "it arrives", true, 900, "light"},
	} {
		b.scripts(c.scripts)
		b.look(c.width, c.scheme)
		b.visit(s.URL + c.path)
		if dom := b.dom(); !strings.Contains(dom, c.want) {
			t.Errorf("%s: nothing says %q:\n%s", c.name, c.want, dom)
		}
		if c.scripts {
			if wide := b.number("document.documentElement.scrollWidth"); wide > float64(c.width) {
				t.Errorf("%s: it is %v pixels wide in a window of %d", c.name, wide, c.width)
			}
		}
		if dir := os.Getenv("SVCPROXY_TEST_SCREENSHOTS"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, c.name+".png"), b.screenshot(), 0o644); err != nil {
				t.Error(err)
			}
		}
		for _, complaint := range b.complaints() {
			t.Errorf("%s: %s", c.name, complaint)
		}
	}
}

// The page follows the node while it is open, by its script, until somebody pauses it.
func TestABrowserFollowsTheNode(t *testing.T) {
	f := sample()
	s := httptest.NewServer(handler(t, f, nil))
	defer s.Close()
	b := newChromium(t)
	b.visit(s.URL)
	f.rename("shop/later")
	for end := time.Now().Add(patience); !strings.Contains(b.dom(), "shop/later</a>"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the page stays as it was:\n%s", b.dom())
		}
	}
	b.number(`document.querySelector(".live button").click()`)
	if dom := b.dom(); !strings.Contains(dom, "<span>Paused</span>") || !strings.Contains(dom, ">Go on</button>") {
		t.Errorf("it is not paused:\n%s", dom)
	}
	for _, complaint := range b.complaints() {
		t.Error(complaint)
	}
}
