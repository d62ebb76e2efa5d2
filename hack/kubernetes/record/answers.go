package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"golang.org/x/tools/txtar"
)

// wantedAnswers lists the URLs that a case has answers of.
func wantedAnswers(a *txtar.Archive) []string {
	var urls []string
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "http://") {
			urls = append(urls, f.Name)
		}
	}
	return urls
}

// recordAnswers asks kube-proxy's servers.
func recordAnswers(ctx context.Context, urls []string) (*txtar.Archive, error) {
	out := &txtar.Archive{}
	for _, url := range urls {
		text, err := answer(ctx, url)
		if err != nil {
			return nil, err
		}
		out.Files = append(out.Files, txtar.File{Name: url, Data: text})
	}
	return out, nil
}

func answer(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%d %s\n", resp.StatusCode, resp.Header.Get("Content-Type"))
	for line := range bytes.Lines(append(body, '\n')) {
		if line = lasting(line); line != nil {
			out.Write(line)
		}
	}
	return out.Bytes(), nil
}

var (
	metric  = regexp.MustCompile(`^(?:# TYPE )?([a-z0-9_]+)(?:{.*})? [^ ]+$`)
	kept    = regexp.MustCompile(`^(?:kubeproxy_|kubernetes_healthcheck|process_|rest_client_requests_total|rest_client_request_duration_)`)
	value   = regexp.MustCompile(`^([a-z0-9_]+(?:{.*})?) [^ ]+$`)
	apiHost = regexp.MustCompile(`host="[^"]*"`)
	instant = regexp.MustCompile(`"20[0-9-]+T[0-9:.]+Z"`)
)

// lasting returns what of a line of an answer is the same in every run. Of metrics
// that is all but the values; left out are their explanations, and those that
// belong to Go or to libraries that kube-proxy has linked.
func lasting(line []byte) []byte {
	text := strings.TrimSuffix(string(line), "\n")
	if m := metric.FindStringSubmatch(text); text == "" || strings.HasPrefix(text, "# HELP") || m != nil && !kept.MatchString(m[1]) {
		return nil
	}
	text = value.ReplaceAllString(text, "$1 0")
	text = apiHost.ReplaceAllString(text, `host="api"`)
	return []byte(instant.ReplaceAllString(text, `"TIME"`) + "\n")
}
