package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
)

// refusedOne is a proxy whose kernel refuses a Service.
func refusedOne() []proxy.Quarantined {
	return []proxy.Quarantined{{
		Family: rules.IPv4, Namespace: "ns", Name: "web", Port: "ns/web:http", Line: "-A KUBE-SVC-A -j KUBE-SEP-A",
		Reason: "No such file or directory", InForce: "nothing", Since: time.Unix(1_700_000_000, 0).UTC(), Next: time.Unix(1_700_000_060, 0).UTC(),
	}}
}

// What the running proxy tells of its quarantine is what trace hears.
func TestQuarantineIsTold(t *testing.T) {
	srv := httptest.NewServer(configured(t).localHandler(localHandlers{health: http.NotFoundHandler(), refused: refusedOne}))
	defer srv.Close()
	at, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	told := askQuarantine(context.Background(), at.Host)
	want := quarantined{"IPv4", "ns/web", "ns/web:http", "-A KUBE-SVC-A -j KUBE-SEP-A", "No such file or directory", "nothing",
		time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_700_000_060, 0).UTC()}
	if len(told) != 1 || told[0] != want {
		t.Errorf("told %+v, want %+v", told, want)
	}
}

// Where nobody answers, or somebody else does, nothing is known.
func TestQuarantineOfNobody(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	at, err := url.Parse(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{at.Host, "127.0.0.1:1", "", "10.250.0.2:10249"} {
		if told := askQuarantine(context.Background(), address); told != nil {
			t.Errorf("%q: told %+v", address, told)
		}
	}
}
